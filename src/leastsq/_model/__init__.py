"""`fit`: a model, data and parameters by name in one call, and the methods of its result."""
