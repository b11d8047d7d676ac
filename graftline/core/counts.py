"""Counts that agree with their nouns: 1 image, 2 images."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """A count with what it counts, as in ``1 exact duplicate`` and ``1,200 exact duplicates``.

    Args:
        number: How many.
        one: What there is one of; verbs may follow, as in ``image stands``.
        many: What there are several of, or none; by default the same with an s.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
