"""The result of `curve_fit_batch`."""

from __future__ import annotations

import operator
from dataclasses import replace

import numpy as np

from .curve_data import DOOR, Model
from .one_of_batch import one_fit

__all__ = ["CurveFitBatchResult"]


class CurveFitBatchResult:
    """
    The fits of `curve_fit_batch`: arrays whose first axes are those of the problems, here written ``...``.

    ``popt, pcov = result`` unpacks it like the result of `curve_fit`.

    Attributes
    ----------
    popt : ndarray, shape (..., n)
        The parameters, or the best ones found; nan if there were too few points.
    pcov : ndarray, shape (..., n, n)
        Their covariances, from the fits' own derivatives, also with bounds or a loss: filled with inf if a covariance could
        not be estimated, nan if the fit failed.  Rows and columns of fixed parameters are 0; those of other parameters at a
        bound, which count as known, are nan.
    stderr : ndarray, shape (..., n)
        Standard errors: the square roots of the diagonals of `pcov`.
    success : ndarray of bool, shape (...)
        Whether `ier` is 1, 2, 3 or 4.
    ier : ndarray of int64, shape (...)
        Why each fit ended, a member of `Status`.
    nfev, njev : ndarray of int64, shape (...)
        Number of evaluations of the model, including those for forward differences, and of Jacobians.
    fnorm : ndarray, shape (...)
        Euclidean norm of the residuals, divided by `sigma`, at `popt`; with a loss the square root of twice the cost.
    reduced_chi2 : ndarray, shape (...)
        ``fnorm**2/dof``, where dof is the number of points that count minus the number of free parameters; nan if dof is 0.
    fvec : ndarray, shape (..., m), or None
        The residuals ``f(xdata, *popt) - ydata``, divided by `sigma`; 0 where points are left out.  None unless asked for.
    active_mask : ndarray of int8, shape (..., n), or None
        -1 for a parameter at its lower bound, 1 at its upper bound, else 0.  None without bounds.
    multipliers : ndarray, shape (..., n), or None
        As in `BatchResult`.
    """

    __slots__ = ("_absolute", "_batch", "_curves", "_model", "_shape", "_words")

    def __init__(self, batch, curves, model, absolute, words):
        self._batch, self._curves, self._model = batch, curves, model
        self._shape, self._absolute, self._words = curves.shape, absolute, words

    def __getstate__(self):
        return {"batch": self._batch, "shape": self._shape, "absolute": self._absolute, "names": self._words.names}

    def __setstate__(self, state):
        from .._problem.words import of_curve_fit
        self._batch, self._shape, self._absolute = state["batch"], state["shape"], state["absolute"]
        self._words = of_curve_fit(state["names"])
        self._curves = self._model = None

    def _shaped(self, rows):
        return None if rows is None else rows.reshape(self._shape + rows.shape[1:])

    @property
    def popt(self):
        return self._shaped(self._batch.x)

    @property
    def pcov(self):
        batch = self._batch
        cov = batch.cov_x.copy()
        unknown = batch.success & np.isnan(np.diagonal(cov, axis1=1, axis2=2)).all(axis=1)
        if not self._absolute:
            scale = batch.reduced_chi2
            unknown |= batch.success & np.isnan(scale)          # no degrees of freedom
            cov *= scale[:, None, None]
        if batch._bounds is not None:
            held = batch.active_mask.all(axis=1)                # all parameters are at bounds, so no variance is unknown
            unknown &= ~held
        cov[unknown] = np.inf
        if batch._bounds is not None:
            fixed = np.broadcast_to(~batch._bounds.free, batch.x.shape) & batch.success[:, None]
            cov[fixed] = 0
            cov.transpose(0, 2, 1)[fixed] = 0
        return self._shaped(cov)

    @property
    def stderr(self):
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.diagonal(self.pcov, axis1=-2, axis2=-1))

    @property
    def success(self):
        return self._shaped(self._batch.success)

    @property
    def ier(self):
        return self._shaped(self._batch.ier)

    @property
    def nfev(self):
        return self._shaped(self._batch.nfev)

    @property
    def njev(self):
        return self._shaped(self._batch.njev)

    @property
    def fnorm(self):
        return self._shaped(self._batch.fnorm)

    @property
    def reduced_chi2(self):
        return self._shaped(self._batch.reduced_chi2)

    @property
    def fvec(self):
        return self._shaped(self._batch.fvec)

    @property
    def active_mask(self):
        return self._shaped(self._batch.active_mask)

    @property
    def multipliers(self):
        return self._shaped(self._batch.multipliers)

    def __iter__(self):
        return iter((self.popt, self.pcov))

    def _number(self, index):
        """The number of a problem among all, from its index along the only axis, or from an index for each axis."""
        index = tuple(map(operator.index, index if isinstance(index, tuple) else (index,)))
        if not self._shape and index == (0,):
            return 0
        if len(index) != len(self._shape):
            raise IndexError(f"{DOOR}: a problem has {len(self._shape)} indices here, got {len(index)}")
        return int(np.arange(self._batch.ier.size).reshape(self._shape)[index])

    def message(self, i):
        """
        Why a fit ended.

        Parameters
        ----------
        i : int or tuple of int
            The problem: an index for each of the problems' axes.

        Returns
        -------
        str
        """
        return self._words.of(self._batch.message(self._number(i)).replace("x0 = ", "p0 = "))

    def fit(self, i):
        """
        One problem as returned by `curve_fit` with ``full_output=True``, for `report`, `covariance` and the other tools.

        The model is called again, at the points that are not left out, to compute results that a batch does not keep.

        Parameters
        ----------
        i : int or tuple of int
            The problem: an index for each of the problems' axes.

        Returns
        -------
        popt, pcov, infodict, mesg, ier

        Raises
        ------
        IndexError
            There is no such problem.
        ValueError
            The result was pickled or copied, and no longer knows its model.

        Examples
        --------
        >>> import numpy as np
        >>> from leastsq import curve_fit_batch, report
        >>> t = np.linspace(0, 3, 20)
        >>> y = np.array([[2.0], [3.0]])*np.exp(-t) + 0.1*np.cos(9*t)
        >>> result = curve_fit_batch(lambda t, a, rate: a*np.exp(-rate*t), t, y)
        >>> report(result.fit(1)).dof
        18
        """
        place, i = i, self._number(i)
        curves, model = self._curves, self._model
        if curves is None:
            raise ValueError("CurveFitBatchResult.fit: this result was pickled or copied, and does not know what was fitted")
        problem, data, weights = self._batch._source
        y, x, sigma = curves.y[i], curves.x[i] if curves.own else curves.x, None
        if weights is not None:
            good = weights[i] != 0
            if not good.all() and (parts := _parts(x, good)) is not None:
                y, x, chosen = y[good], parts, weights[i, good]
                alone = Model(model.f, model.jac, None if curves.own else x)
                problem = replace(problem, func=alone.residual, Dfun=None if problem.Dfun is None else alone.jacobian)
                data = ({i: y}, {i: x}) if curves.own else ({i: y},)
                weights = np.broadcast_to(chosen, (len(weights), chosen.size))
            with np.errstate(divide="ignore"):
                sigma = 1/weights[i]
        popt, _, info, _, ier = one_fit(self._batch, i, problem, data, weights)
        info.derive(_with_data, model.f, x, y, sigma)
        return popt, self.pcov[place if self._shape else ()], info, self.message(place), ier

    def __repr__(self):
        shape = " x ".join(map(str, self._shape)) or "1"
        return f"<CurveFitBatchResult of {shape} fits: {repr(self._batch).partition(': ')[2]}"


def _parts(x, good):
    """xdata of the good points; None if it is not known which axis is that of the points."""
    if isinstance(x, np.ndarray) and x.ndim:
        if x.shape[-1] == good.size:
            return x[..., good]
        if x.shape[0] == good.size:
            return x[good]
    return None


def _with_data(problem, f, x, y, sigma):
    return replace(problem, model=f, xdata=x, ydata=y, sigma=sigma)
