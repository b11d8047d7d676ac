"""The verdict on a batch: how many features drifted, and whether that is an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graftline.core.params import DriftParams
from graftline.core.records import Record
from graftline.evaluation.feature_reference import FeatureReference, FeatureSample
from graftline.inference.drift.statistics import (
    FeatureTests,
    Shares,
    allowed_distances,
    compare_confidence,
    compare_features,
    compare_labels,
    shift,
)

FEWEST_IMAGES = 30
"""Of fewer images one cannot tell: features move together, so that one odd image moves many."""
_TOP = 15


class DriftedFeature(Record):
    """One feature, and how it moved."""

    feature: int
    """Its place among the pooled features, from 0."""
    distance: float
    p_value: float
    """Adjusted for the number of features."""
    shift: float
    """In standard deviations of the training images."""
    train_mean: float
    batch_mean: float


class LabelShare(Record):
    """How often a label was given."""

    train: float
    batch: float


class Drift(Record):
    """``drift.json``: a batch beside the training images."""

    judged: bool
    reason: str | None
    """Why there is no verdict; null if there is one."""
    alarm: bool
    threshold: float
    share: float
    """Of the features that drifted."""
    images: int
    """Of the batch that were compared: a sample."""
    reference_images: int
    """Of the training split that they were compared with."""
    features: int = 0
    median_distance: float = 0.0
    largest_distance: float = 0.0
    smallest_p: float = 1.0
    """Of the hypothesis that no feature differs at all (Bonferroni)."""
    held_out_images: int = 0
    held_out_median_distance: float = 0.0
    """The same of the validation split, which has not drifted: what is usual."""
    held_out_differing: float = 0.0
    """The share of features in which even the validation split differs beyond min_distance."""
    top: tuple[DriftedFeature, ...] = ()
    """The features that moved the most."""
    labels: dict[str, LabelShare] = {}
    labels_p: float = 1.0
    """Of the hypothesis that the labels' shares are the same (chi-square)."""
    labels_distance: float = 0.0
    """Total variation of the labels' shares, 0 to 1."""
    confidence: float = 0.0
    held_out_confidence: float = 0.0
    confidence_p: float = 1.0


@dataclass(frozen=True)
class Judged:
    """The verdict, and what its picture needs besides."""

    drift: Drift
    features: FeatureTests | None = None
    held_out: FeatureTests | None = None


def judge(
    reference: FeatureReference | None,
    batch: FeatureSample | None,
    labels: dict[str, int],
    params: DriftParams,
) -> Judged:
    """Compares a batch with the reference of its model.

    Args:
        reference: The model's; None if it has none.
        batch: A sample of the batch; None if the model gives no features.
        labels: How often each class was given in the whole batch.
        params: When a difference counts.
    """
    if reference is None or (batch is None and any(labels.values())):
        return _unjudged(
            "this model was registered without a reference of its features; a model that is "
            "trained now has one",
            params,
        )
    if batch is None or len(batch) < FEWEST_IMAGES:
        images = 0 if batch is None else len(batch)
        return _unjudged(
            f"{images} images are too few to tell; {FEWEST_IMAGES} are needed", params, images
        )
    features = compare_features(reference.train.features, batch.features)
    held_out = compare_features(reference.train.features, reference.validation.features)
    allowed = allowed_distances(held_out, params.significance, params.min_distance)
    share = float(features.beyond(params.significance, allowed).mean())
    differing = held_out.beyond(params.significance, np.full_like(allowed, params.min_distance))
    counts = np.bincount(reference.train.labels, minlength=len(labels)).tolist()
    shares = compare_labels(counts, list(labels.values()))
    confidence = compare_confidence(reference.validation, batch)
    drift = Drift(
        judged=True,
        reason=None,
        alarm=share > params.threshold,
        threshold=params.threshold,
        share=share,
        images=len(batch),
        reference_images=len(reference.train),
        features=len(features.distances),
        median_distance=float(np.median(features.distances)),
        largest_distance=float(features.distances.max()),
        smallest_p=features.smallest_p,
        held_out_images=len(reference.validation),
        held_out_median_distance=float(np.median(held_out.distances)),
        held_out_differing=float(differing.mean()),
        top=_top(features, reference.train, batch),
        labels=_label_shares(list(labels), shares),
        labels_p=shares.p_value,
        labels_distance=shares.distance,
        confidence=confidence.batch,
        held_out_confidence=confidence.held_out,
        confidence_p=confidence.p_value,
    )
    return Judged(drift, features, held_out)


def _unjudged(reason: str, params: DriftParams, images: int = 0) -> Judged:
    drift = Drift(
        judged=False,
        reason=reason,
        alarm=False,
        threshold=params.threshold,
        share=0.0,
        images=images,
        reference_images=0,
    )
    return Judged(drift)


def _top(
    features: FeatureTests, train: FeatureSample, batch: FeatureSample
) -> tuple[DriftedFeature, ...]:
    order = np.argsort(-features.distances, kind="stable")[:_TOP]
    return tuple(
        DriftedFeature(
            feature=int(at),
            distance=float(features.distances[at]),
            p_value=float(features.p_values[at]),
            shift=shift(train.features, batch.features, int(at)),
            train_mean=float(train.features[:, at].mean(dtype=np.float64)),
            batch_mean=float(batch.features[:, at].mean(dtype=np.float64)),
        )
        for at in order
    )


def _label_shares(names: Sequence[str], shares: Shares) -> dict[str, LabelShare]:
    return {
        name: LabelShare(train=float(train), batch=float(batch))
        for name, train, batch in zip(names, shares.train, shares.batch, strict=True)
    }
