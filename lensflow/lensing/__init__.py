"""Weak lensing: mass sheets, convergence maps and their statistics."""
