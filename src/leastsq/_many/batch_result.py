"""What `leastsq_batch` returns."""

from __future__ import annotations

import numpy as np

from .._fit.status import SUCCESS, Status, message, vanished_message
from .._problem.bounds import Bounds
from .._problem.counts import count_residuals
from .._problem.derivatives import ORDINARY_SIZE
from .._problem.settings import Settings
from .one_of_batch import one_fit

__all__ = ["BatchResult"]


class BatchResult:
    """
    The fits of `leastsq_batch`: arrays with a row for each problem.

    Attributes
    ----------
    x : ndarray, shape (B, n)
        The solutions, or the best points found.
    ier : ndarray of int64, shape (B,)
        Why each fit ended, a member of `Status`; 1, 2, 3 and 4 are success; 12: there were
        fewer data with a weight than free parameters, and no fit.
    success : ndarray of bool, shape (B,)
        Whether `ier` is one of these.
    nfev, njev : ndarray of int64, shape (B,)
        Number of evaluations of the residuals, with those for forward
        differences, and of Jacobians, of either kind.
    fnorm : ndarray, shape (B,)
        Euclidean norm of the (weighted) residuals at `x`; with a loss the root of
        twice the cost.  nan where there are none.
    cov_x : ndarray, shape (B, n, n), or None
        Inverses of ``J.T @ J``, as in `leastsq`; nan where it is singular or the
        fit failed, and in the rows and columns of parameters at a bound.  None if
        it was not wanted.
    stderr : ndarray, shape (B, n), or None
        Standard errors, from `cov_x` and `reduced_chi2`, of counts from `cov_x` alone; infinite without degrees of freedom.
        None without `cov_x`.
    reduced_chi2 : ndarray, shape (B,)
        ``fnorm**2/dof``, dof the number of weights that are not zero less that of free parameters; nan without any.
    fvec : ndarray, shape (B, m), or None
        The (weighted) residuals at `x`; of counts the deviance residuals.  None unless it was wanted.
    active_mask : ndarray of int8, shape (B, n), or None
        -1 for a parameter at its lower bound, 1 at its upper one, else 0.  None
        without bounds.
    multipliers : ndarray, shape (B, n), or None
        The slope of the cost along a parameter that its bound holds, 0 for others, nan for one at a
        bound where nothing depends on it.  None without bounds.
    """

    __slots__ = ("_bounds", "_code", "_counted", "_of_counts", "_settings", "_source", "_vanished", "_wants_fvec", "active_mask",
                 "cov_x", "fnorm", "fvec", "ier", "multipliers", "nfev", "njev", "x")

    def __init__(self, x, settings, bounds, cov, fvec):
        count, n = x.shape
        self.x = x
        self.ier, self.nfev, self.njev = (np.zeros(count, np.int64) for _ in range(3))
        self.fnorm = np.empty(count)
        self.cov_x = np.empty((count, n, n)) if cov else None
        self.fvec = None
        self.active_mask = None
        self.multipliers = None if bounds is None else np.zeros((count, n))
        self._bounds = bounds       # None, or `Bounds`, each side (n,) or (B, n)
        self._code = None           # what compiled functions returned
        self._settings = settings
        self._wants_fvec = fvec
        self._counted = None        # how many data each problem has: a number, or (B,)
        self._source = None         # (problem, data, weights): what was fitted
        self._of_counts = False     # whose variance is their mean
        self._vanished = None       # (B, n): differences by these were zero

    def __getstate__(self):
        """In plain types, which other versions know."""
        state = {name: getattr(self, name) for name in self.__slots__}
        state["_source"] = None                 # functions seldom pickle
        state["_settings"] = self._settings.tolerances() | {"maxfev": self._settings.maxfev}
        state["_bounds"] = None if self._bounds is None else (self._bounds.low, self._bounds.high)
        return state

    def __setstate__(self, state):
        self._of_counts = False                 # of pickles that do not say
        for name, value in state.items():
            setattr(self, name, value)
        self._settings = Settings(**self._settings)
        self._bounds = None if self._bounds is None else Bounds(*self._bounds)

    def set_size(self, m):
        """The number of residuals, once known."""
        self._counted = m
        if self._wants_fvec:
            self.fvec = np.empty((self.ier.size, m))

    def without_data(self, weights):
        """Which problems have too few data to be fitted, shape (B,), or None; their results are made."""
        if weights is None:
            return None
        self._counted = np.count_nonzero(weights, axis=1)
        poor = self._counted < np.maximum(self._free(), 1)
        self.ier[poor] = Status.NO_DATA
        for array in (self.x, self.fnorm, self.cov_x, self.fvec):
            if array is not None:
                array[poor] = np.nan
        return poor

    def take(self, which, part):
        """The results of some of the problems."""
        for name in ("x", "ier", "nfev", "njev", "fnorm", "cov_x", "fvec", "multipliers", "_code"):
            if getattr(self, name) is not None:
                getattr(self, name)[which] = getattr(part, name)

    def finish(self, job):
        """Once all fits have ended: itself, with where they are, and what was fitted, for `fit`."""
        if job.problem.loss.is_poisson:
            self.of_counts(job.problem.loss.counts)
        self.find_active()
        start = job.x
        if job.problem.by_differences and ((start != 0) & (np.abs(start) < ORDINARY_SIZE)).any():
            self.find_vanished(start)
        self._source = job.problem, job.data, job.weights
        return self

    def _free(self):
        return self.x.shape[1] if self._bounds is None else self._bounds.free.sum(-1)

    @property
    def reduced_chi2(self):
        dof = self._counted - self._free()
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(dof > 0, self.fnorm**2/dof, np.nan)

    @property
    def stderr(self):
        if self.cov_x is None:
            return None
        scale = np.ones(self.ier.size) if self._of_counts else self.reduced_chi2
        scale = np.where(np.isnan(scale) & np.isfinite(self.fnorm), np.inf, scale)
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.diagonal(self.cov_x, axis1=1, axis2=2)*scale[:, None])

    def fit(self, i):
        """
        One problem as `leastsq` returns it with ``full_output=True``, for `report`, `covariance` and the other tools.

        Its function is called again, for what a batch does not keep.

        Parameters
        ----------
        i : int
            Which problem.

        Returns
        -------
        x, cov_x, infodict, mesg, ier

        Raises
        ------
        IndexError
            There is no problem i.
        ValueError
            The batch was pickled or copied, and does not know its functions any more.

        Examples
        --------
        >>> import numpy as np
        >>> from leastsq import leastsq_batch, report
        >>> t = np.linspace(0, 3, 20)
        >>> y = np.array([[2.0], [3.0]])*np.exp(-t) + 0.1*np.cos(9*t)
        >>> result = leastsq_batch(lambda x, y: x[:, :1]*np.exp(-x[:, 1:]*t) - y, np.ones((2, 2)), y)
        >>> result.stderr.round(2)
        array([[0.05, 0.04],
               [0.05, 0.03]])
        >>> report(result.fit(1)).dof
        18
        """
        if self._source is None:
            raise ValueError("BatchResult.fit: this result was pickled or copied, and does not know what was fitted")
        i = range(self.ier.size)[i]
        return one_fit(self, i, *self._source)

    def of_counts(self, counts):
        """The results are those of counts: of what they are expected to be, deviance residuals are made."""
        self._of_counts = True
        if self.fvec is not None:
            self.fvec = count_residuals(self.fvec, counts)

    def find_active(self):
        """Which parameters are at a bound, once `x` is known."""
        if self._bounds is not None:
            self.active_mask = self._bounds.active_mask(self.x, np.int8)

    def find_vanished(self, start):
        """Which parameters stay close to zero, where they started, because the differences by them vanish."""
        close = (start != 0) & (np.abs(start) < ORDINARY_SIZE) & (self.x == start) & ~(self.fnorm == 0)[:, None]
        if self._bounds is not None:
            close &= self._bounds.free
        if self.cov_x is not None:
            close &= np.isnan(self.cov_x).any(axis=(1, 2))[:, None]         # the zero column makes J singular
            self._vanished = close if close.any() else None

    @property
    def success(self):
        return np.isin(self.ier, SUCCESS)

    def message(self, i):
        """
        Why a fit ended.

        Parameters
        ----------
        i : int
            Which problem.

        Returns
        -------
        str
        """
        if self._bounds is None:
            return self._reason(i)
        if self.ier[i] == Status.IMPROPER and np.isnan(self.x[i]).any():
            return f"x0 = {np.array2string(self.x[i], threshold=20)} is not within the bounds."
        known = self.njev[i] > 0 and self.ier[i] != Status.NOT_FINITE
        return self._reason(i) + self._bounds.row(i).describe(self.x[i], self.multipliers[i] if known else None)

    def _reason(self, i):
        ier = int(self.ier[i])
        at = np.array2string(self.x[i], threshold=20)
        if ier == Status.STOPPED:
            return f"A compiled function stopped the fit by returning {self._code[i]}."
        if ier != Status.NOT_FINITE:
            mesg = message(ier, **self._settings.tolerances(), maxfev=self._settings.maxfev)
            which = () if self._vanished is None else np.flatnonzero(self._vanished[i])
            return mesg + vanished_message(self.x[i], tuple(which) or None)
        if self.njev[i] == 0 and self._of_counts:
            return ("An expectation of counts is not finite, negative, or zero where something was counted, at x0 = "
                    f"{at}.")
        if self.njev[i] == 0:
            return f"The residuals, or their norm, are not finite at x0 = {at}."
        return f"The Jacobian, or the norm of a column, is not finite at x = {at}."

    def __repr__(self):
        counts = np.bincount(self.ier, minlength=len(Status))
        converged = counts[list(SUCCESS)].sum()
        parts = [f"{converged} converged"]
        parts += [f"{counts[s]} {s.name}" for s in Status if s not in SUCCESS and counts[s]]
        return f"<BatchResult of {self.ier.size} fits: {', '.join(parts)}>"
