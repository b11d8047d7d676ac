"""Tests of the benchmarks' arithmetic; the benchmarks themselves are run by make bench."""
