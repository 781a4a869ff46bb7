"""Astronomy batch jobs as lazy Dask graphs."""
