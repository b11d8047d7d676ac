"""Grafts a new classifier onto a pretrained network, and proves every choice."""

__version__ = "0.1.0"
