"""The Levenberg-Marquardt method with geodesic acceleration, in NumPy: a method that strategies.py compares with.

Follows M. K. Transtrum and J. P. Sethna (arXiv:1201.5885, 2012), with the settings that the manual of the GNU
Scientific Library gives for "lmaccel".  Every step takes one more evaluation of the residuals, at x + h v, for the second
derivative along the step v; the step is v + a/2; a step with |a| > 0.75 |v| is rejected; the damping follows H. B. Nielsen
(IMM-REP-1999-05, DTU, 1999); the scale is Moré's.  Written from these descriptions, only to count evaluations.
"""
import numpy as np

MOST_ACCELERATION = 0.75
PROBE = 0.02                    # h
FIRST_DAMPING = 1e-3
TOLERANCE = 1.49012e-8


def fit(residual, x, jacobian=None, *, acceleration=True, maxfev=None):
    """(x, f).  maxfev is counted as by leastsq, without calls of `jacobian`."""
    x = np.array(x, float)
    n = x.size
    maxfev = maxfev or (100 if jacobian else 200)*(n + 1)
    f = residual(x)
    calls, damping, growth = 1, FIRST_DAMPING, 2.0
    scale = np.zeros(n)
    while np.all(np.isfinite(f)) and calls < maxfev:
        if jacobian:
            J = jacobian(x)
        else:
            J, spent = differences(residual, x, f)
            calls += spent
        norms = np.sqrt(np.sum(J*J, axis=0))
        if not np.all(np.isfinite(norms)):
            break
        scale = np.maximum(scale, norms)
        D = np.where(scale == 0, 1.0, scale)
        accepted = False
        while not accepted and calls < maxfev:
            damped = np.vstack([J, np.sqrt(damping)*np.diag(D)])
            solve = np.linalg.pinv(damped)[:, :f.size]
            v = -solve @ f
            step = v
            refused = False
            if acceleration:
                probe = residual(x + PROBE*v)
                calls += 1
                a = -solve @ (2/PROBE*((probe - f)/PROBE - J @ v))
                refused = not np.linalg.norm(D*a) <= MOST_ACCELERATION*np.linalg.norm(D*v)
                step = v + a/2
            ratio = actual = -1.0
            predicted = 0.0
            if not refused:
                trial = residual(x + step)
                calls += 1
                actual = 1 - np.sum(trial**2)/np.sum(f**2)
                predicted = (np.sum((J @ v)**2) + 2*damping*np.sum((D*v)**2))/np.sum(f**2)
                ratio = actual/predicted if predicted > 0 else 0.0
            accepted = ratio > 0
            if accepted:
                x, f = x + step, trial
                damping *= max(1/3, 1 - (2*ratio - 1)**3)
                growth = 2.0
            else:
                damping, growth = damping*growth, 2*growth
            small = np.linalg.norm(D*step) <= TOLERANCE*np.linalg.norm(D*x)
            if small or (abs(actual) <= TOLERANCE and predicted <= TOLERANCE and ratio <= 2) or not np.isfinite(damping):
                return x, f
    return x, f


def differences(residual, x, f):
    """MINPACK's forward differences, and the number of evaluations that they took."""
    columns = []
    for j in range(x.size):
        h = np.sqrt(np.finfo(float).eps)*(abs(x[j]) or 1.0)
        moved = x.copy()
        moved[j] += h
        columns.append((residual(moved) - f)/h)
    return np.array(columns).T, x.size
