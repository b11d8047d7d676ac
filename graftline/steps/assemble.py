"""Step ``assemble``: base weights, trunk up to the cut, a fresh head, and the trunk as LiteRT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graftline.core.backbones import family_of
from graftline.core.checksums import verify
from graftline.core.errors import MissingOutputError
from graftline.core.files import replacing_directory
from graftline.core.params import HeadParams, Params
from graftline.core.records import Assembled, FreezePlan
from graftline.core.workspace import Workspace
from graftline.network.classifier import POOLING, TRUNK, build_graft, build_preparation
from graftline.network.cutting import build_base, cut_after, layer_records
from graftline.network.keras_io import convert_to_litert, load_model, save_model, variables_digest
from graftline.network.pretrained import load_into, resolve_weights

MODEL = "model.keras"
WHOLE_TRUNK = "trunk.keras"
FROZEN = "frozen.tflite"
RECORD = "assembled.json"


def assemble(workspace: Workspace, params: Params) -> Assembled:
    """Builds the grafted network and converts its trunk for inference.

    Writes ``models/assembled/``: ``model.keras`` (preparation, trunk, head, untrained),
    ``trunk.keras`` (the trunk with what lies after the cut, for a plan that cuts elsewhere),
    ``frozen.tflite`` (raw images to pooled features at the cut), ``assembled.json``.

    Raises:
        WeightsError: If the base weights are absent, changed or of another architecture.
        ParamsError: If ``backbone.cut`` names no layer, or one on a side path.
        MissingOutputError: If ``load`` has not run.
    """
    classes = read_classes(workspace)
    backbone, size_px = params.backbone, params.preprocess.size_px
    weights = resolve_weights(workspace, backbone, size_px)
    base = build_base(size_px, backbone.alpha, params.seed, backbone.name)
    load_into(base, weights)
    trunk = cut_after(base, backbone.cut_layer)
    graft = build_graft(trunk, params.head, len(classes), params.seed)
    record = Assembled(
        backbone=backbone.name,
        alpha=backbone.alpha,
        size_px=size_px,
        cut=backbone.cut_layer,
        weights=backbone.weights,
        weights_sha256=weights.sha256,
        trunk_digest=variables_digest(trunk.variables),
        layers=layer_records(base),
        pooling=params.head.pooling,
        head_units=params.head.units,
        dropout=params.head.dropout,
        classes=classes,
    )
    with replacing_directory(workspace.assembled, sealed=True) as folder:
        save_model(graft, folder / MODEL)
        save_model(base, folder / WHOLE_TRUNK)
        frozen = frozen_part(graft.get_layer(TRUNK), size_px, graft.get_layer(POOLING))
        (folder / FROZEN).write_bytes(convert_to_litert(frozen))
        record.write(folder / RECORD)
    return record


def planned_trunk(workspace: Workspace, cut: str) -> Any:
    """The assembled trunk up to and with a layer, which need not be the one of ``backbone.cut``."""
    return cut_after(load_model(workspace.assembled / WHOLE_TRUNK), cut)


def planned_graft(workspace: Workspace, plan: FreezePlan, head: HeadParams, seed: int) -> Any:
    """The untrained network with the trunk cut where the plan says.

    Args:
        workspace: Where ``assemble`` left its files.
        plan: What is to be trained.
        head: What the new classifier is made of.
        seed: Seed of its weights.
    """
    if plan.cut == Assembled.read(workspace.assembled / RECORD).cut:
        return load_model(workspace.assembled / MODEL)
    classes = len(read_classes(workspace))
    return build_graft(planned_trunk(workspace, plan.cut), head, classes, seed)


def frozen_part(prefix: Any, size_px: int, pooling: Any = None) -> Any:
    """The function from raw images to the outputs of the frozen prefix, pooled or not.

    Images are no larger than ``size_px`` here, so that no filter is needed for shrinking.
    """
    preparation = build_preparation(size_px, family_of(prefix).scaling, antialias=False)

    def run(images: Any) -> Any:
        maps = prefix(preparation(images), training=False)
        return maps if pooling is None else pooling(maps)

    return run


def read_classes(workspace: Workspace) -> tuple[str, ...]:
    """The class names that ``load`` found, in the order of their labels."""
    path: Path = workspace.loaded / "classes.json"
    verify(path)
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise MissingOutputError(
            f"{path} is not there yet",
            where=str(path),
            fix="run dvc repro, or graftline load",
        ) from error
