"""Step ``assemble``: base weights, trunk up to the cut, a fresh head, and the trunk as LiteRT."""

from __future__ import annotations

from graftline.core.files import replacing_directory
from graftline.core.params import Params
from graftline.core.records import Assembled
from graftline.core.workspace import Workspace
from graftline.network.assembled import MODEL, RECORD, WHOLE_BACKBONE, read_classes
from graftline.network.classifier import POOLING, TRUNK, build_graft, frozen_part
from graftline.network.cutting import build_base, cut_after, layer_records
from graftline.network.keras_io import convert_to_litert, save_model, variables_digest
from graftline.network.pretrained import load_into, resolve_weights

FROZEN = "frozen.tflite"


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
        save_model(base, folder / WHOLE_BACKBONE)
        frozen = frozen_part(graft.get_layer(TRUNK), size_px, graft.get_layer(POOLING))
        (folder / FROZEN).write_bytes(convert_to_litert(frozen))
        record.write(folder / RECORD)
    return record
