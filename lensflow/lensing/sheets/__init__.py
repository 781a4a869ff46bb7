"""Mass sheets: the rows of a shell as a map of overdensity, judged in the same pass."""
