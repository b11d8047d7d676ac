"""Labelled images in: sources, decoding, splits, duplicates, shards, fingerprints."""
