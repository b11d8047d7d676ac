"""Two models on the same test images: how far apart they are, and how surely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graftline.core.records import Record
from graftline.evaluation.answers import Answers
from graftline.evaluation.paired import p_worse

_RESAMPLES = 9999
_BATCH_NUMBERS = 2_000_000


class ClassRecall(Record):
    """How many of one class's test images each model names rightly."""

    images: int
    challenger: float
    champion: float | None
    """Null where there is no champion."""
    only_challenger_right: int | None = None
    """Images that only the challenger gets right; null without a champion."""
    only_champion_right: int | None = None

    @property
    def drop(self) -> float:
        """By how much the champion's recall is above the challenger's."""
        return 0.0 if self.champion is None else self.champion - self.challenger


class Paired(Record):
    """The challenger against another version, image by image.

    That version is the champion, or the best one so far, where that is another.
    """

    images: int | None = None
    """Those that neither was trained on; null in receipts of before this was looked at."""
    champion_accuracy: float
    difference: float
    """The challenger's accuracy minus the champion's."""
    difference_low: float
    """Lower end of the bootstrap interval."""
    difference_high: float
    confidence: float
    """Of the interval: 1 - 2 x significance, so that each end alone errs by the significance."""
    only_challenger_right: int
    """Images that only the challenger gets right."""
    only_champion_right: int
    p_better: float
    """McNemar's exact one-sided test: how likely such a lead of the challenger is by chance."""
    p_worse: float
    """The same for such a lead of the champion."""


class Baseline(Record):
    """The challenger against always naming one class."""

    name: str
    """The class that is the most frequent one of the training split."""
    accuracy: float
    """Of always naming it."""
    others: int
    """Test images of the other classes: on these alone can a model be better."""
    p_better: float
    """McNemar's exact one-sided test: how likely such a lead of the challenger is by chance."""


class Comparison(Record):
    """What the gate looks at."""

    images: int
    """Those that the challenger was not trained on."""
    challenger_accuracy: float
    challenger_balanced_accuracy: float | None = None
    """The mean of the classes' recalls, so that each class counts the same."""
    baseline: Baseline | None = None
    """Null where it is not known which class is the most frequent one."""
    paired: Paired | None
    """Null where there is no champion, or no significance to test at."""
    classes: dict[str, ClassRecall]
    """On the images that neither was trained on."""
    missing: tuple[str, ...] = ()
    """Classes of the test split of which no such image is left."""


def compare(
    challenger: Answers,
    champion: Answers | None,
    significance: float | None,
    seed: int,
    *,
    counted: NDArray[np.bool_] | None = None,
    most_frequent: str | None = None,
) -> Comparison:
    """Compares two models' answers to one test split.

    Args:
        challenger: The new model's.
        champion: The present one's, to the same images; None if there is none.
        significance: Level of the tests; without it no test is made.
        seed: Of the bootstrap.
        counted: Which images the two are compared on, (n,), at least one; None: on all.
        most_frequent: The class that is the most frequent one of the training split.

    Raises:
        ValueError: If the two did not answer the same images.
    """
    if champion is not None and champion.split.digest != challenger.split.digest:
        raise ValueError("the answers are to different images")
    right = challenger.right
    whole = _recalls(challenger, None)
    mine = challenger if counted is None else challenger.only(counted)
    theirs = champion if champion is None or counted is None else champion.only(counted)
    classes = _recalls(mine, theirs)
    paired = None
    if theirs is not None and significance is not None:
        paired = pair(mine, theirs, significance, seed)
    return Comparison(
        images=len(right),
        challenger_accuracy=float(right.mean()),
        challenger_balanced_accuracy=float(np.mean([one.challenger for one in whole.values()])),
        baseline=None if most_frequent is None else _baseline(challenger, most_frequent),
        paired=paired,
        classes=classes,
        missing=tuple(name for name in whole if name not in classes),
    )


def pair(challenger: Answers, other: Answers, significance: float, seed: int) -> Paired:
    """Compares two models' answers to the same images, at least one.

    Args:
        challenger: The new model's.
        other: The one that it is held against.
        significance: Level of the tests.
        seed: Of the bootstrap.
    """
    return _paired(challenger.right, other.right, significance, seed)


def difference_interval(
    challenger: NDArray[np.bool_], champion: NDArray[np.bool_], confidence: float, seed: int
) -> tuple[float, float]:
    """The bootstrap interval of the difference between two accuracies on the same images.

    Images are drawn with both models' answers to them (paired); the percentiles of 9 999 such
    draws are the interval (Efron and Tibshirani, 1993, chapter 13).

    Args:
        challenger: Whether each image is right, (n,).
        champion: Likewise, of the same images.
        confidence: Of the interval, as in 0.9.
        seed: The same one gives the same interval.
    """
    from scipy.stats import bootstrap

    # Drawing images and drawing their differences is the same, at half the work.
    differences = challenger.astype(np.int8) - champion.astype(np.int8)
    if len(differences) == 1:
        return float(differences[0]), float(differences[0])
    found = bootstrap(
        (differences,),
        np.mean,
        n_resamples=_RESAMPLES,
        # All draws at once would take n times 80 kB.
        batch=max(1, _BATCH_NUMBERS // len(differences)),
        confidence_level=confidence,
        method="percentile",
        rng=seed,
    ).confidence_interval
    return float(found.low), float(found.high)


def _paired(
    challenger: NDArray[np.bool_], champion: NDArray[np.bool_], significance: float, seed: int
) -> Paired:
    confidence = 1 - 2 * significance
    low, high = difference_interval(challenger, champion, confidence, seed)
    only_challenger = int((challenger & ~champion).sum())
    only_champion = int((champion & ~challenger).sum())
    return Paired(
        images=len(champion),
        champion_accuracy=float(champion.mean()),
        difference=(only_challenger - only_champion) / len(champion),
        difference_low=low,
        difference_high=high,
        confidence=confidence,
        only_challenger_right=only_challenger,
        only_champion_right=only_champion,
        p_better=p_worse(champion, challenger),
        p_worse=p_worse(challenger, champion),
    )


def _baseline(challenger: Answers, most_frequent: str) -> Baseline:
    of_it = _of_class(challenger.split.labels, most_frequent)
    return Baseline(
        name=most_frequent,
        accuracy=float(of_it.mean()),
        others=int((~of_it).sum()),
        p_better=p_worse(of_it, challenger.right),
    )


def _recalls(challenger: Answers, champion: Answers | None) -> dict[str, ClassRecall]:
    labels: list[str] = challenger.split.labels.tolist()
    names = sorted(set(labels))
    # By number: a look at all images for each of ten thousand classes takes an hour.
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.fromiter(map(code_of.__getitem__, labels), np.int64, len(labels))

    def counted(of: NDArray[np.bool_]) -> list[int]:
        counts: list[int] = np.bincount(codes[of], minlength=len(names)).tolist()
        return counts

    mine = challenger.right
    images, right = counted(np.ones(len(labels), bool)), counted(mine)
    before: list[ClassRecall] = [
        ClassRecall(
            images=count,
            challenger=named / count,
            champion=None,
            only_challenger_right=None,
            only_champion_right=None,
        )
        for count, named in zip(images, right, strict=True)
    ]
    if champion is None:
        return dict(zip(names, before, strict=True))
    theirs = champion.right
    beside = zip(counted(theirs), counted(mine & ~theirs), counted(theirs & ~mine), strict=True)
    return {
        name: one.model_copy(
            update={
                "champion": named / one.images,
                "only_challenger_right": only_mine,
                "only_champion_right": only_theirs,
            }
        )
        for name, one, (named, only_mine, only_theirs) in zip(names, before, beside, strict=True)
    }


def _of_class(labels: NDArray[np.object_], name: str) -> NDArray[np.bool_]:
    # A bare text would become one of NumPy's, which end before a character of code 0.
    of_class: NDArray[np.bool_] = labels == np.array([name], object)
    return of_class
