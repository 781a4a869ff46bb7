"""What a SLURM site is like, asked of SLURM itself: partitions, nodes, accounts; and a first profile from it."""
