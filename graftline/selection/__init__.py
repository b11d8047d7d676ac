"""Choosing by measurement where the backbone is cut, and what of it trains.

This is ``freeze.strategy: auto``.

The depth profile tells how good frozen features are at several depths; a race of short trainings
tells whether anything below the head should train too; the verdict tells what was chosen, and why.
The test split is read by none of this.
"""
