"""Many problems at once, and data in blocks: here, by any map, on Dask."""
