"""Convergence maps: mass sheets summed along the line of sight."""
