"""Uncertainties of a fit: covariances, profiles, intervals, reports."""
