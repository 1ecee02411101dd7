"""Benchmarks for asv (asv.conf.json), measured over the history of the repository."""
