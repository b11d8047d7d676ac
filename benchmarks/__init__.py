"""Benchmarks: ratios measured in one run, since machines and hours differ."""
