"""Whether augmentation changes what images show: a mirrored 2 is no 2.

A linear probe is fitted to pooled features of some training images and asked about others, as they
are and changed by one kind of augmentation at a time. Where right answers turn wrong, the change
has made another class of them, or has left what such features can tell apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import ParamsError
from graftline.core.exact_tests import lower_bound
from graftline.core.params import AugmentParams
from graftline.core.records import Record
from graftline.data.decoding import Pixels
from graftline.data.shards import PackedImages

_LOG = logging.getLogger(__name__)
LABEL_SAFETY = "label_safety.json"
_MAX_SAMPLE = 3000
_FOLDS = 3
_MAX_ASKED = 1000
"""Of a whole sample one fold suffices; of a small one every image is asked about."""
_BATCH = 256
_RISK = 0.05
"""Of calling any class unsafe by chance, over all classes and changes together."""
_JUDGE_ACCURACY = 0.8
"""A probe that is right less often is too often so by luck to refuse anything."""
_CLASSES_NAMED = 4

PooledFeatures = Callable[[Pixels], NDArray[np.float32]]
"""From uint8 (n, height, width, c) to float32 (n, d)."""
Change = Callable[[Pixels, NDArray[np.int64]], Pixels]
"""From images and their places in the sample to the changed images."""


class ClassCheck(Record):
    """What a change does to the images of one class."""

    name: str
    right: int
    """Images that the probe classifies right as they are."""
    wrong: int
    """Of these, wrong once they are changed."""
    at_least: float
    """The share that turns wrong, as a lower confidence bound."""
    taken_for: str | None
    """The class that most of them are taken for; null when none turns wrong."""
    unsafe: bool
    """Whether the bound is above ``augment.unsafe_drop``."""


class ChangeCheck(Record):
    """What one kind of augmentation does, alone."""

    change: str
    key: str
    """The parameter that asks for it."""
    classes: tuple[ClassCheck, ...]

    @property
    def unsafe(self) -> tuple[ClassCheck, ...]:
        """The classes that it harms, the worst first."""
        found = [check for check in self.classes if check.unsafe]
        return tuple(sorted(found, key=lambda check: -check.wrong / check.right))


class LabelSafety(Record):
    """``data/features/label_safety.json``: what each kind of augmentation does to a probe."""

    asked: int
    """Training images that the probe was asked about, none of which it was fitted to."""
    probe_accuracy: float
    """On these, unchanged."""
    unsafe_drop: float
    changes: tuple[ChangeCheck, ...]


def check_labels(
    images: PackedImages,
    classes: tuple[str, ...],
    augment: AugmentParams,
    seed: int,
    pooled: PooledFeatures,
) -> LabelSafety:
    """Asks a probe about changed training images.

    A flip is always made; all other changes are drawn over their whole range. A class is unsafe
    if the lower bound of its share of right answers that turn wrong lies above
    ``augment.unsafe_drop`` (Clopper and Pearson, 1934; one-sided, 95 % for all classes and changes
    together by Bonferroni's division), so that one of five is no proof.

    Args:
        images: The preprocessed images; their training split is looked at.
        classes: Class names in the order of their labels.
        augment: Which changes, and how much of each.
        seed: Seed of the sample and of the changes.
        pooled: The frozen backbone.
    """
    sample = _Sample(images, seed, pooled)
    judges = list(_judges(sample))
    asked = sum(len(judge.asked) for judge in judges)
    right = sum(len(judge.right) for judge in judges)
    changes = list(_changes(augment, seed, len(sample)))
    risk = _RISK / max(1, len(changes) * len(classes))
    return LabelSafety(
        asked=asked,
        probe_accuracy=right / asked if asked else 0.0,
        unsafe_drop=augment.unsafe_drop,
        changes=tuple(
            ChangeCheck(
                change=name,
                key=f"augment.{key}",
                classes=_class_checks(sample, judges, change, classes, augment.unsafe_drop, risk),
            )
            for name, key, change in changes
        ),
    )


def judge_labels(safety: LabelSafety, augment: AugmentParams) -> None:
    """Refuses, or warns of, an augmentation that harms labels.

    Raises:
        ParamsError: If one does and ``augment.on_unsafe`` is ``refuse``; it names the classes.
    """
    harmful = [check for check in safety.changes if check.unsafe]
    if not harmful:
        return
    message = "\n  ".join(_told(check) for check in harmful)
    if augment.on_unsafe == "warn":
        _LOG.warning("%s", message)
        return
    if safety.probe_accuracy < _JUDGE_ACCURACY:
        accuracy = f"{safety.probe_accuracy:.0%} of unchanged images"
        _LOG.warning("%s\n  not refused, since the probe is right on only %s", message, accuracy)
        return
    keys = ", ".join(dict.fromkeys(check.key for check in harmful))
    raise ParamsError(
        message,
        where=f"params.yaml, {keys}",
        allowed=f"at most {safety.unsafe_drop:.0%} of a class's right answers turn wrong "
        "(augment.unsafe_drop)",
        fix=f"switch {keys} off or lower the amount; if the labels hold all the same, set "
        "augment.on_unsafe: warn",
    )


def safety_rows(safety: LabelSafety) -> list[tuple[str, int, int, str]]:
    """Per change: its name, right answers, how many turn wrong, and the unsafe classes."""
    return [
        (
            check.change,
            sum(one.right for one in check.classes),
            sum(one.wrong for one in check.classes),
            ", ".join(one.name for one in check.unsafe),
        )
        for check in safety.changes
    ]


class _Sample:
    """Some training images in random order, and their pooled features."""

    def __init__(self, images: PackedImages, seed: int, pooled: PooledFeatures) -> None:
        shuffled = np.random.default_rng((seed, _MAX_SAMPLE)).permutation(images.indices("train"))
        # Of copies the first: no probe is to be asked about an image that it was fitted to.
        _, first = np.unique(images.hashes.as_bytes(shuffled), return_index=True)
        shuffled = shuffled[np.sort(first)]
        self._indices = shuffled[:_MAX_SAMPLE]
        self._images, self._pooled = images, pooled
        self.labels = images.labels[self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def features(self, places: NDArray[np.int64], change: Change | None = None) -> NDArray[Any]:
        """Pooled features (n, d) of the images at these places of the sample, as changed."""
        found: NDArray[Any] | None = None
        for positions, batch in self._images.batches(self._indices[places], _BATCH):
            changed = batch if change is None else change(batch, places[positions])
            values = self._pooled(changed)
            if found is None:
                found = np.empty((len(places), values.shape[1]), np.float32)
            found[positions] = values
        return np.empty((0, 0), np.float32) if found is None else found


@dataclass(frozen=True)
class _Judge:
    """A probe, the places that it was asked about, and those where it was right."""

    probe: Any
    asked: NDArray[np.int64]
    right: NDArray[np.int64]


def _judges(sample: _Sample) -> Iterator[_Judge]:
    places = np.arange(len(sample))
    features = sample.features(places)
    asked = 0
    for held in np.array_split(places, _FOLDS):
        fitted = np.setdiff1d(places, held)
        if asked >= _MAX_ASKED or not len(held) or len(np.unique(sample.labels[fitted])) < 2:
            return
        probe = _fitted_probe(features[fitted], sample.labels[fitted])
        right = held[probe.predict(features[held]) == sample.labels[held]]
        yield _Judge(probe, held, right)
        asked += len(held)


def _fitted_probe(features: NDArray[Any], labels: NDArray[np.int32]) -> Any:
    """Ridge regression on the classes: in closed form, and good with more features than images."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=np.logspace(0, 5, 6)))
    return probe.fit(features.astype(np.float64), labels)


def _changes(augment: AugmentParams, seed: int, count: int) -> Iterator[tuple[str, str, Change]]:
    """Each kind of change alone: what it is called, its key in ``augment``, and the change."""
    from graftline.training.augment import AugmentedViews

    if augment.flip in ("horizontal", "both"):
        yield "a horizontal flip", "flip", lambda images, _: images[:, :, ::-1]
    if augment.flip in ("vertical", "both"):
        yield "a vertical flip", "flip", lambda images, _: images[:, ::-1]
    off = AugmentParams()
    for key, name in (
        ("rotation_degrees", "a rotation by up to {:g} degrees"),
        ("translation", "a shift by up to {:.0%}"),
        ("zoom", "a zoom by up to {:.0%}"),
        ("contrast", "a change of contrast by up to {:.0%}"),
        ("brightness", "a change of brightness by up to {:.0%}"),
    ):
        amount = getattr(augment, key)
        if amount:
            alone = AugmentedViews(off.model_copy(update={key: amount}), seed, count)
            yield name.format(amount), key, _one_view(alone)


def _one_view(views: Any) -> Change:
    return lambda images, places: views.changed(images, places, 1)


def _class_checks(
    sample: _Sample,
    judges: list[_Judge],
    change: Change,
    classes: tuple[str, ...],
    unsafe_drop: float,
    risk: float,
) -> tuple[ClassCheck, ...]:
    """Counts, per class, the right answers that turn wrong."""
    right = np.concatenate([judge.right for judge in judges]) if judges else np.empty(0, np.int64)
    labels = sample.labels[right]
    answers = [
        judge.probe.predict(sample.features(judge.right, change))
        for judge in judges
        if len(judge.right)
    ]
    answered = np.concatenate(answers) if answers else labels
    checks = []
    for label, name in enumerate(classes):
        of_class = answered[labels == label]
        mistaken = of_class[of_class != label]
        at_least = lower_bound(len(mistaken), len(of_class), risk)
        checks.append(
            ClassCheck(
                name=name,
                right=len(of_class),
                wrong=len(mistaken),
                at_least=at_least,
                taken_for=classes[np.bincount(mistaken).argmax()] if len(mistaken) else None,
                unsafe=at_least > unsafe_drop,
            )
        )
    return tuple(checks)


def _told(check: ChangeCheck) -> str:
    shown = [
        f"{one.name}: {one.wrong} of {one.right} ({one.wrong / one.right:.0%}), most are taken "
        f"for {one.taken_for}"
        for one in check.unsafe[:_CLASSES_NAMED]
    ]
    more = len(check.unsafe) - len(shown)
    if more:
        shown.append(f"and {more} more {'class' if more == 1 else 'classes'}")
    return f"{check.change} turns right answers into wrong ones:\n    " + "\n    ".join(shown)
