"""Drift: whether the images of a batch still resemble those that the model was trained on."""
