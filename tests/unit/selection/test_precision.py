"""Fewer bits are taken where they lose nothing, and never on the word of a clock."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from graftline.compute import devices
from graftline.core.errors import ParamsError
from graftline.core.params import ComputeParams
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.network.runners import choosing
from graftline.network.runners.choosing import Computing
from graftline.selection import depths, features, folds
from graftline.selection.precision import PrecisionChoice, choose_precision

IMAGES, CLASSES = 300, 3


@pytest.fixture
def with_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: ())
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setattr(choosing, "has_openvino", lambda: True)


def features_off_by(noise: float, monkeypatch: pytest.MonkeyPatch) -> list[Computing]:
    """Features that tell three classes apart in float32, and are off by noise in less."""
    random = np.random.default_rng(0)
    labels = np.arange(IMAGES) % CLASSES
    exact = np.eye(CLASSES)[labels] * 4 + random.normal(0, 1, (IMAGES, CLASSES))
    off = random.normal(0, noise, exact.shape)
    asked: list[Computing] = []

    def pooled(*given: Any) -> list[np.ndarray]:
        asked.append(given[-1])
        full = given[-1].precision == "float32"
        return [(exact if full else exact + off).astype(np.float32)]

    monkeypatch.setattr(PackedImages, "open", lambda _: SimpleNamespace(labels=labels))
    monkeypatch.setattr(folds, "training_sample", lambda *_: np.arange(IMAGES))
    monkeypatch.setattr(depths, "depth_at", lambda *_: None)
    monkeypatch.setattr(features, "pooled_features", pooled)
    return asked


def chosen(**compute: Any) -> PrecisionChoice:
    assembled: Any = None
    params = ComputeParams.model_validate(compute)
    return choose_precision(Workspace(Path("nowhere")), assembled, params, "a_layer", IMAGES, 0)


@pytest.mark.usefixtures("with_amx")
@pytest.mark.parametrize(("noise", "precision"), [(0.01, "bfloat16"), (3.0, "float32")])
def test_auto_takes_16_bits_where_the_probe_loses_nothing(
    noise: float, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = features_off_by(noise, monkeypatch)
    choice = chosen(precision="auto")
    assert choice.precision == precision
    assert choice.reason is not None
    assert choice.reason.startswith(f"{precision}: of 300 training images a probe after a_layer")
    assert asked == [Computing("litert", "float32"), Computing("openvino", "bfloat16")]


@pytest.mark.usefixtures("with_amx")
def test_what_the_parameters_say_is_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = features_off_by(0.0, monkeypatch)
    assert chosen() == PrecisionChoice("float32", None)
    assert chosen(precision="bfloat16").precision == "bfloat16"
    assert asked == []


def test_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: ())
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset({"avx2"}))
    choice = chosen(precision="auto")
    assert choice.precision == "float32"
    assert choice.reason is not None and "AMX" in choice.reason
    with pytest.raises(ParamsError, match=r"compute\.precision: bfloat16, which takes a GPU") as no:
        chosen(precision="bfloat16")
    assert no.value.exit_code == 2
