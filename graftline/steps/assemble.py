"""Step ``assemble``: base weights, the backbone up to the cut, a fresh head, and it as LiteRT."""

from __future__ import annotations

from graftline.core.files import replacing_directory
from graftline.core.params import Params
from graftline.core.records import Assembled
from graftline.core.workspace import Workspace
from graftline.network.assembled import FROZEN, MODEL, WHOLE_BACKBONE, read_classes
from graftline.network.classifier import BACKBONE, POOLING, build_classifier, frozen_part
from graftline.network.cutting import build_base, cut_after, layer_records
from graftline.network.keras_io import convert_to_litert, save_model, variables_digest
from graftline.network.pretrained import load_into, resolve_weights


def assemble(workspace: Workspace, params: Params) -> Assembled:
    """Builds the classifier and converts its backbone for inference.

    Writes ``models/assembled/``: ``model.keras`` (preparation, backbone, head, untrained),
    ``backbone.keras`` (the backbone with what lies after the cut, for a plan that cuts elsewhere),
    ``frozen.tflite`` (raw images to pooled features at the cut), ``assembled.json``.

    Raises:
        WeightsError: If the base weights are absent, changed or of another architecture.
        ParamsError: If ``backbone.cut`` names no layer, or one on a side path.
        MissingOutputError: If ``load`` has not run.
    """
    import tensorflow as tf

    classes = read_classes(workspace)
    chosen, size_px = params.backbone, params.preprocess.size_px
    weights = resolve_weights(workspace, chosen, size_px)
    # On the cores everywhere: compute.device does not say what a fresh head begins with.
    with tf.device("CPU"):
        base = build_base(size_px, chosen.alpha, params.seed, chosen.name)
        load_into(base, weights)
        backbone = cut_after(base, chosen.cut_layer)
        classifier = build_classifier(backbone, params.head, len(classes), params.seed)
    record = Assembled(
        backbone=chosen.name,
        alpha=chosen.alpha,
        size_px=size_px,
        cut=chosen.cut_layer,
        weights=chosen.weights,
        weights_sha256=weights.sha256,
        backbone_digest=variables_digest(backbone.variables),
        layers=layer_records(base),
        pooling=params.head.pooling,
        head_units=params.head.units,
        dropout=params.head.dropout,
        classes=classes,
    )
    with replacing_directory(workspace.assembled, sealed=True) as folder:
        save_model(classifier, folder / MODEL)
        save_model(base, folder / WHOLE_BACKBONE)
        frozen = frozen_part(classifier.get_layer(BACKBONE), size_px, classifier.get_layer(POOLING))
        (folder / FROZEN).write_bytes(convert_to_litert(frozen))
        record.write(folder / record.file_name())
    return record
