"""How sure a fit is: covariances, profiles, intervals, reports."""
