"""Benchmarks: ratios measured in one run, since machines and hours differ."""

import os

# What TensorFlow tells while it starts would stand between the figures.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# As every process of Graftline's has it: else the first one takes all of a GPU's memory.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
