"""Data of `fit`: of any shape, complex, masked, with nan, from pandas; x is passed to the model whole."""
import numpy as np
import pytest

import leastsq as lsq

random = np.random.default_rng(3)
T = np.linspace(0, 4, 60)
Y = 2.5*np.exp(-1.3*T) + 0.5 + 0.02*random.standard_normal(T.size)
START = [1, 1, 0]
U, V = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 9))
BLOB_START = {"height": 1, "u0": 0, "v0": 0, "width": 1}


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


def blob(uv, height, u0, v0, width):
    u, v = uv
    return height*np.exp(-0.5*((u - u0)**2 + (v - v0)**2)/width**2)


IMAGE = blob((U, V), 3, 0.2, -0.1, 0.6) + 0.05*random.standard_normal(U.shape)


def resonance(f, gain, centre, width):
    return gain/(1 + 1j*(f - centre)/width)


F = np.linspace(-3, 3, 40)
ANSWER = resonance(F, 2, 0.3, 0.7) + 0.03*(random.standard_normal(F.size) + 1j*random.standard_normal(F.size))


def same(a, b, rtol=1e-7):
    assert np.allclose(a.x, b.x, rtol=rtol, atol=1e-12)
    assert np.allclose(a.cov, b.cov, rtol=1e-5, atol=1e-15)
    assert (a.dof, a.chi2) == (b.dof, pytest.approx(b.chi2))


# ------------------------------------------------------------------ shapes

@pytest.mark.parametrize("sigma", [None, 0.05, np.linspace(0.04, 0.06, U.size).reshape(U.shape)])
def test_an_image_is_fitted_like_a_vector_of_its_pixels(sigma):
    image = lsq.fit(blob, (U, V), IMAGE, BLOB_START, sigma=sigma)
    row = lsq.fit(blob, (U.ravel(), V.ravel()), IMAGE.ravel(), BLOB_START, sigma=sigma if np.ndim(sigma) < 2 else sigma.ravel())
    same(image, row, 0)
    assert image.residuals.shape == image.predict().shape == image.band().fit.shape == U.shape
    assert np.array_equal(image.residuals.ravel(), row.residuals)
    assert np.allclose(image.residuals, (image.predict() - IMAGE)/(1 if sigma is None else sigma))
    assert image.r_squared == pytest.approx(row.r_squared) and image.r_squared > 0.9


def test_data_of_three_axes_come_back_in_shape():
    cube = np.stack([IMAGE, 2*IMAGE])

    def model(uv, height, u0, v0, width, ratio):
        one = blob(uv, height, u0, v0, width)
        return np.stack([one, ratio*one])
    result = lsq.fit(model, (U, V), cube, [1, 0, 0, 1, 1])
    assert result.residuals.shape == cube.shape and result["ratio"] == pytest.approx(2)


def test_data_may_be_integers_lists_and_single_numbers():
    counts = [100, 61, 37, 22, 14, 8]
    assert lsq.fit(decay, list(range(6)), counts, [90, 0.5, 0]).success
    a, b = (lsq.fit(decay, np.arange(6), np.array(counts, kind), [90, 0.5, 0]) for kind in (np.int16, float))
    same(a, b, 0)
    one = lsq.fit(lambda x, a: a*x, 2.0, 6.0, [1])
    assert one["a"] == pytest.approx(3)


def test_a_model_may_return_one_number():
    result = lsq.fit(lambda x, mean: mean, T, Y, [0], sigma=0.02)
    assert result["mean"] == pytest.approx(Y.mean()) and result.residuals.shape == Y.shape


def test_a_model_may_return_a_list():
    assert lsq.fit(lambda x, a: [a, a, a + 1], None, [1.0, 1, 2], [0])["a"] == pytest.approx(1)


# ------------------------------------------------------------------ complex

@pytest.mark.parametrize("sigma", [None, 0.03, np.linspace(0.02, 0.04, 40)])
@pytest.mark.parametrize("absolute", [False, True])
def test_complex_data_are_fitted_as_both_parts(sigma, absolute):
    start = [1, 0, 1]
    both = lsq.fit(resonance, F, ANSWER, start, sigma=sigma, absolute_sigma=absolute)

    def parts(f, gain, centre, width):
        z = resonance(f, gain, centre, width)
        return np.concatenate([z.real, z.imag])
    stacked = lsq.fit(parts, F, np.concatenate([ANSWER.real, ANSWER.imag]), start,
                      sigma=sigma if np.ndim(sigma) == 0 else np.tile(sigma, 2), absolute_sigma=absolute)
    same(both, stacked, 0)
    assert both.dof == 2*F.size - 3
    assert both.residuals.dtype.kind == "c" and both.predict().dtype.kind == "c"
    assert np.allclose(both.residuals*(1 if sigma is None else sigma), both.predict() - ANSWER)
    band = both.band()
    assert np.allclose(band.fit, both.predict())
    assert (band.lower.imag < band.fit.imag).all() and (band.upper.real > band.fit.real).all()
    assert both.r_squared == pytest.approx(stacked.r_squared)


def test_complex_sigma_gives_one_sigma_for_each_part():
    a = lsq.fit(resonance, F, ANSWER, [1, 0, 1], sigma=0.03 + 0.06j)
    b = lsq.fit(lambda f, *p: np.concatenate([resonance(f, *p).real, resonance(f, *p).imag]), F,
                np.concatenate([ANSWER.real, ANSWER.imag]), [1, 0, 1], sigma=np.repeat([0.03, 0.06], 40))
    same(a, b, 1e-12)


def test_derivatives_of_complex_models_are_complex():
    def derivatives(f, gain, centre, width):
        z = 1/(1 + 1j*(f - centre)/width)
        return np.column_stack([z, gain*z**2*1j/width, gain*z**2*1j*(f - centre)/width**2])
    same(lsq.fit(resonance, F, ANSWER, [1, 0, 1], jac=derivatives), lsq.fit(resonance, F, ANSWER, [1, 0, 1]), 1e-6)


# ------------------------------------------------------------------ data that do not count

KEEP = random.random(T.size) > 0.2
MISSING = np.where(KEEP, Y, np.nan)


@pytest.mark.parametrize("given", ["masked y", "masked x", "nan in y", "nan in x", "inf sigma", "nan sigma", "masked sigma"])
def test_data_that_do_not_count_are_as_if_absent(given):
    sigma = np.linspace(0.01, 0.03, T.size)
    wanted = lsq.fit(decay, T[KEEP], Y[KEEP], START, sigma=sigma[KEEP])
    x, y, s = {"masked y": (T, np.ma.array(Y, mask=~KEEP), sigma), "masked x": (np.ma.array(T, mask=~KEEP), Y, sigma),
               "nan in y": (T, MISSING, sigma), "nan in x": (np.where(KEEP, T, np.nan), Y, sigma),
               "inf sigma": (T, Y, np.where(KEEP, sigma, np.inf)), "nan sigma": (T, Y, np.where(KEEP, sigma, np.nan)),
               "masked sigma": (T, Y, np.ma.array(sigma, mask=~KEEP))}[given]
    seen = []

    def model(given, height, rate, level):
        seen.append(given is x)
        return decay(given, height, rate, level)
    result = lsq.fit(model, x, y, START, sigma=s, nan_policy="omit")
    same(result, wanted, 0)
    assert all(seen)
    assert np.array_equal(np.isnan(result.residuals), ~KEEP)
    assert np.array_equal(result.residuals[KEEP], wanted.residuals)


def test_a_masked_image_and_masked_complex_data():
    keep = random.random(U.shape) > 0.3
    result = lsq.fit(blob, (U, V), np.ma.array(IMAGE, mask=~keep), BLOB_START)
    same(result, lsq.fit(blob, (U[keep], V[keep]), IMAGE[keep], BLOB_START), 0)
    assert np.array_equal(np.isnan(result.residuals), ~keep)
    some = random.random(F.size) > 0.2
    result = lsq.fit(resonance, F, np.where(some, ANSWER, np.nan), [1, 0, 1], nan_policy="omit")
    same(result, lsq.fit(resonance, F[some], ANSWER[some], [1, 0, 1]), 0)
    assert np.array_equal(np.isnan(result.residuals), ~some)


def test_rows_and_columns_of_a_covariance_are_left_out():
    matrix = 0.02**2*(np.eye(60) + 0.4*np.eye(60, k=1) + 0.4*np.eye(60, k=-1))
    result = lsq.fit(decay, T, MISSING, START, sigma=matrix, nan_policy="omit")
    same(result, lsq.fit(decay, T[KEEP], Y[KEEP], START, sigma=matrix[np.ix_(KEEP, KEEP)]), 0)


def test_nan_in_any_of_several_predictors_leaves_the_point_out():
    x = np.array([T, np.where(KEEP, 1.0, np.nan)])
    result = lsq.fit(lambda x, a, b, c: decay(x[0], a, b, c)*x[1], x, Y, START, nan_policy="omit")
    same(result, lsq.fit(decay, T[KEEP], Y[KEEP], START), 0)
    for given in ((T, x[1]), {"t": T, "w": x[1]}):
        def model(x, a, b, c):
            t, w = x.values() if isinstance(x, dict) else x
            return decay(t, a, b, c)*w
        same(lsq.fit(model, given, Y, START, nan_policy="omit"), result, 0)


def test_derivatives_are_left_out_with_their_points():
    def jac(t, height, rate, level):
        e = np.exp(-rate*t)
        return np.column_stack([e, -height*t*e, np.ones_like(t)])
    same(lsq.fit(decay, T, MISSING, START, nan_policy="omit", jac=jac), lsq.fit(decay, T[KEEP], Y[KEEP], START), 1e-6)


# ------------------------------------------------------------------ pandas

def test_a_series_keeps_its_index_and_name():
    pandas = pytest.importorskip("pandas")
    y = pandas.Series(Y, index=pandas.Index(T, name="time"), name="signal")
    result = lsq.fit(decay, T, y, START)
    same(result, lsq.fit(decay, T, Y, START), 0)
    for values in (result.residuals, result.predict()):
        assert values.index.equals(y.index) and isinstance(values, pandas.Series) and values.name == "signal"


@pytest.mark.parametrize("of", ["series", "frame", "shuffled"])
def test_x_of_pandas_goes_to_the_model_as_it_is(of):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"t": T, "u": 1.0})
    if of == "shuffled":                # an index that subtraction would align
        frame.index = random.permutation(T.size)
    x = frame["t"] if of == "series" else frame

    def model(x, height, rate, level):
        assert isinstance(x, (pandas.DataFrame, pandas.Series))
        return decay(x if of == "series" else x["t"]*x["u"], height, rate, level)
    result = lsq.fit(model, x, pandas.Series(Y), START)
    same(result, lsq.fit(decay, T, Y, START), 0)
    result.band()


def test_missing_numbers_of_a_series_and_a_frame_are_left_out():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"t": np.where(np.arange(60) == 3, np.nan, T), "y": MISSING})
    keep = KEEP & (np.arange(60) != 3)
    result = lsq.fit(lambda x, a, b, c: decay(x["t"], a, b, c), frame, frame["y"], START, nan_policy="omit")
    same(result, lsq.fit(decay, T[keep], Y[keep], START), 0)
    nullable = pandas.Series(np.where(KEEP, Y, None), dtype="Float64")
    same(lsq.fit(decay, T, nullable, START, nan_policy="omit"), lsq.fit(decay, T[KEEP], Y[KEEP], START), 0)
