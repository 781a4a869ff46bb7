"""Building blocks over xarray and Dask that every field uses."""
