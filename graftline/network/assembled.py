"""The output of ``assemble``, as later steps read it, and the network that a plan asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graftline.core.checksums import verify
from graftline.core.errors import not_there_yet
from graftline.core.params import HeadParams
from graftline.core.records import Assembled, FreezePlan
from graftline.core.workspace import Workspace
from graftline.network.classifier import build_classifier
from graftline.network.cutting import cut_after
from graftline.network.keras_io import load_model

MODEL = "model.keras"
WHOLE_BACKBONE = "backbone.keras"
FROZEN = "frozen.tflite"
"""Raw images to pooled features at the cut."""


def planned_backbone(workspace: Workspace, cut: str) -> Any:
    """The assembled backbone up to and with a layer, be it that of ``backbone.cut`` or not."""
    return cut_after(load_model(workspace.assembled / WHOLE_BACKBONE), cut)


def planned_classifier(workspace: Workspace, plan: FreezePlan, head: HeadParams, seed: int) -> Any:
    """The untrained network with the backbone cut where the plan says.

    Args:
        workspace: Where ``assemble`` left its files.
        plan: What is to be trained.
        head: What the new classifier is made of.
        seed: Seed of its weights.
    """
    if plan.cut == Assembled.read_in(workspace).cut:
        return load_model(workspace.assembled / MODEL)
    classes = len(read_classes(workspace))
    return build_classifier(planned_backbone(workspace, plan.cut), head, classes, seed)


def read_classes(workspace: Workspace) -> tuple[str, ...]:
    """The class names that ``load`` found, in the order of their labels."""
    path: Path = workspace.loaded / "classes.json"
    verify(path)
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise not_there_yet(path) from error
