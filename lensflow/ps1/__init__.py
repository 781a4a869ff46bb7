"""Pan-STARRS1 skycells: tessellation, readers, stitching, convolution inputs and outputs."""
