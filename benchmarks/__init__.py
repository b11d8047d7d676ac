"""Benchmarks: ratios measured in one run, since machines and hours differ."""

import os

# What TensorFlow tells while it starts would stand between the figures.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
