"""Patches of convergence maps, and what is measured on each."""
