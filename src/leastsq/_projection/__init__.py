"""Parameters in which a model is linear: found, solved for inside each evaluation, and put back."""
