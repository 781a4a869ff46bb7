"""Clusters on SLURM: jobs that are submitted, watched, replaced before they end, and never left behind."""
