"""Predicting any number of image files into one Parquet file, in bounded memory.

A part of some thousand rows is written whole or not at all, so that a killed run goes on with the
next part and ends with the same bytes as one that nobody disturbed.
"""
