"""Parameters in which a model is linear: found by probing, and solved for inside each evaluation."""
