"""Templates of TESS images: convolved Pan-STARRS projections summed into TESS pixels."""
