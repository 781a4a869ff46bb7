"""asv suites (bench_*.py), and comparisons with peers (compare.py)."""
