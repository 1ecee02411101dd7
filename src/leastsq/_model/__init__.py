"""`fit`: a model, data and the names of parameters in one call, and all that the result can say."""
