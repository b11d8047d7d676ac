"""A network's answers to a split: right or wrong, their losses, and the temperature for them.

The logits of a million images and ten thousand classes are 40 GB. So where they are many, only a
sample of the images has all of theirs kept, to choose the temperature from; the others are measured
batch by batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graftline.training.datasets import Examples
from graftline.training.loop import Loop, right
from graftline.training.losses import cross_entropies
from graftline.training.temperature import Tempered, tempered

_KEPT_LOGITS = 1 << 22
"""Of these losses are taken from all at once; more take half a gigabyte in doubles."""
_SAMPLED_LOGITS = 1 << 24


class Measured(NamedTuple):
    """The answers to some examples.

    Args:
        right: Whether each is right, (n,).
        losses: The cross-entropy of each, (n,).
        tempered: The temperature at which they are the lowest, and each one's at it.
    """

    right: NDArray[np.bool_]
    losses: NDArray[np.float64]
    tempered: Tempered


def measured(loop: Loop, examples: Examples) -> Measured:
    """Has the network answer, in inference mode.

    Args:
        loop: With the network.
        examples: All of them are answered, and count in every loss.
    """
    labels = examples.labels
    if len(labels) * loop.classes <= _KEPT_LOGITS:
        logits = loop.logits(examples)
        return Measured(
            right(logits, labels), cross_entropies(logits, labels), tempered(logits, labels)
        )
    every = -(-len(labels) * loop.classes // _SAMPLED_LOGITS)
    sampled = np.arange(0, len(labels), every)
    kept: list[NDArray[np.float32]] = []
    found: list[tuple[NDArray[np.bool_], NDArray[np.float64]]] = []
    at = 0
    for logits in loop.logits_by_batch(examples):
        rows = slice(at, at + len(logits))
        found.append((right(logits, labels[rows]), cross_entropies(logits, labels[rows])))
        # A copy: a view would hold all of the batch.
        kept.append(logits[-at % every :: every].copy())
        at = rows.stop
    some = np.concatenate(kept)
    # The parts go first, and then the whole: each takes as much as a sample may.
    del kept
    temperature = tempered(some, labels[sampled]).temperature
    del some
    at_best, at = np.empty(len(labels)), 0
    for logits in loop.logits_by_batch(examples):
        rows = slice(at, at + len(logits))
        at_best[rows] = cross_entropies(logits / np.float64(temperature), labels[rows])
        at = rows.stop
    answered, losses = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Measured(answered, losses, Tempered(temperature, at_best))
