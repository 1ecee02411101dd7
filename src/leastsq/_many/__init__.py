"""Many problems at once, and data in blocks: in this process, with any map, or on Dask."""
