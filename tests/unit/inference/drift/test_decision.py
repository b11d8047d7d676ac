"""Drift on features that are made up: what has not drifted, what has, and what cannot be told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftline.core.params import DriftParams
from graftline.evaluation.feature_reference import FeatureReference, FeatureSample, chosen
from graftline.inference.drift.decision import FEWEST_IMAGES, Drift, judge
from graftline.inference.drift.report import PICTURE, RECORD, TEXT, write_report
from graftline.inference.drift.statistics import compare_features, compare_labels, shift
from graftline.inference.model_choice import ChosenModel

PARAMS = DriftParams()
FEATURES, CLASSES = 40, 3
MODEL = ChosenModel(folder="here", name="graftline", version="7", weight_digest="0")


def made(images: int, seed: int, moved: float = 0.0, features: int = FEATURES) -> FeatureSample:
    """Features that depend on each other, as those of images do; ``moved`` shifts half of them."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(8, features))
    values = rng.normal(size=(images, 8)) @ mixing
    values[:, : features // 2] += 3 * moved
    probabilities = rng.dirichlet(np.ones(CLASSES), images)
    # Half of them never below 0, as after a ReLU.
    return FeatureSample.of(
        np.maximum(values, 0).astype(np.float32), probabilities.astype(np.float32)
    )


REFERENCE = FeatureReference(made(500, 0), made(200, 1))


def verdict(batch: FeatureSample, reference: FeatureReference | None = REFERENCE) -> Drift:
    labels = np.bincount(batch.labels, minlength=CLASSES).tolist()
    return judge(reference, batch, dict(zip("abc", labels, strict=True)), PARAMS).drift


@settings(max_examples=8)
@given(st.integers(2, 10_000), st.sampled_from([FEWEST_IMAGES, 100, 400]))
def test_images_of_the_same_kind_raise_no_alarm(seed: int, images: int) -> None:
    drift = verdict(made(images, seed))

    assert drift.judged
    assert not drift.alarm, (drift.share, drift.smallest_p)


def test_others_raise_one() -> None:
    drift = verdict(made(300, 2, moved=1.5))

    assert drift.alarm
    assert 0.4 < drift.share <= 0.5
    assert {one.feature for one in drift.top} <= set(range(FEATURES // 2))
    assert drift.top[0].distance == drift.largest_distance > drift.median_distance
    assert drift.smallest_p < 1e-6


def test_what_is_significant_but_tiny_is_none() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(20_000, 4)).astype(np.float32)
    batch = (rng.normal(size=(20_000, 4)) + 0.08).astype(np.float32)
    found = compare_features(train, batch)

    assert (found.p_values < PARAMS.significance).all()
    assert not found.beyond(PARAMS.significance, np.full(4, PARAMS.min_distance)).any()


def test_a_network_that_knows_its_training_images_by_heart_raises_none() -> None:
    train = made(500, 0, moved=1.5)
    reference = FeatureReference(train, made(400, 1))

    assert verdict(made(400, 2), FeatureReference(train, train)).alarm
    usual = verdict(made(400, 2), reference)
    assert usual.held_out_differing > 0.4
    assert not usual.alarm


def test_a_feature_that_never_moved_can_drift() -> None:
    train, batch = np.zeros((100, 2), np.float32), np.ones((100, 2), np.float32)
    train[:, 1] = batch[:, 1] = np.arange(100)
    found = compare_features(train, batch)

    assert found.distances.tolist() == [1.0, 0.0]
    assert np.isfinite(shift(train, batch, 0))
    assert np.isfinite(shift(np.zeros((5, 1), np.float32), np.ones((5, 1), np.float32), 0))


@pytest.mark.parametrize("images", [0, 1, FEWEST_IMAGES - 1])
def test_too_few_images_are_not_judged(images: int) -> None:
    drift = verdict(made(images, 0, moved=9.0))

    assert not drift.judged
    assert not drift.alarm
    assert "too few" in str(drift.reason)


def test_a_model_without_a_reference_says_so() -> None:
    for reference, batch in ((None, made(100, 0)), (REFERENCE, None)):
        drift = judge(reference, batch, {"a": 100}, PARAMS).drift
        assert not drift.judged
        assert "without a reference" in str(drift.reason)


def test_labels_are_compared_by_their_shares() -> None:
    same = compare_labels([50, 30, 0], [500, 300, 0])
    other = compare_labels([50, 30, 0], [0, 300, 500])

    assert same.p_value > 0.99 and same.distance == 0
    assert other.p_value < 1e-6 and other.distance == pytest.approx(0.625)
    assert compare_labels([5, 0], [7, 0]).p_value == 1


@given(st.integers(0, 50), st.integers(0, 30))
def test_a_choice_keeps_the_order_and_takes_nothing_twice(count: int, most: int) -> None:
    taken = chosen(np.arange(count), most, seed=0)

    assert len(taken) == min(count, most)
    assert (np.diff(taken) > 0).all()


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    batch = made(300, 2, moved=1.5)
    judged = judge(REFERENCE, batch, {"a|b": 100, "b": 100, "$c": 100}, PARAMS)
    write_report(judged, MODEL, PARAMS, tmp_path / "drift")

    assert Drift.read(tmp_path / "drift" / RECORD) == judged.drift
    text = (tmp_path / "drift" / TEXT).read_text(encoding="utf-8")
    assert text.startswith("# Drift: graftline version 7\n\nDRIFTED: 50.0 % of 40 features")
    assert "a\\|b" in text
    picture = (tmp_path / "drift" / PICTURE).read_bytes()
    assert picture.startswith(b"\x89PNG")
    write_report(judged, MODEL, PARAMS, tmp_path / "drift")
    assert (tmp_path / "drift" / PICTURE).read_bytes() == picture
    # An alarm of before does not stay beside predictions that could not be judged.
    write_report(judge(None, None, {"a": 1}, PARAMS), MODEL, PARAMS, tmp_path / "drift")
    assert not (tmp_path / "drift" / PICTURE).exists()
