"""MobileNetV2's trunk: building it, cutting it, and what its layers are.

The blocks are those of the paper (Sandler et al., 2018, table 2): a stem, seventeen inverted
residual blocks and a last 1x1 convolution.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

from graftline.artifacts import LayerRecord
from graftline.errors import ParamsError

STEM, TOP = "stem", "top"
_BLOCK = re.compile(r"^block_(\d+)_")


def build_base(size_px: int, alpha: float, seed: int) -> Any:
    """MobileNetV2 without its top and with random weights.

    Args:
        size_px: Height and width of the input.
        alpha: Width multiplier.
        seed: Seed of the random weights.

    Returns:
        A ``keras.Model`` from float32 (n, size_px, size_px, 3) in [-1, 1] to feature maps.
    """
    import keras

    # Keras numbers nameless layers through a process's life, and the names stand in the files.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    return keras.applications.MobileNetV2(
        input_shape=(size_px, size_px, 3), include_top=False, weights=None, alpha=alpha
    )


def cut_after(base: Any, layer_name: str) -> Any:
    """The base up to and with the named layer, as a model named ``trunk``.

    Raises:
        ParamsError: If there is no such layer; the message names the nearest ones.
    """
    import keras

    check_layer(layer_name, [layer.name for layer in base.layers[1:]], "backbone.cut")
    return keras.Model(base.input, base.get_layer(layer_name).output, name="trunk")


def check_layer(name: str, names: list[str], key: str) -> None:
    """Refuses a layer name that does not exist.

    Raises:
        ParamsError: Naming the key, the nearest names and how many there are.
    """
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.3) or names[-5:]
    raise ParamsError(
        f"{key}: there is no layer named {name!r}",
        where="params.yaml",
        allowed=f"one of {len(names)} layers; the nearest names are {', '.join(near)}",
        fix="take one of these; after a run reports/freezing/layers.csv names all up to the cut",
    )


def block_of(layer_name: str) -> str:
    """The block that a layer belongs to: ``stem``, ``block_0`` to ``block_16`` or ``top``."""
    if layer_name.startswith("expanded_conv"):
        return "block_0"
    if found := _BLOCK.match(layer_name):
        return f"block_{found[1]}"
    return TOP if layer_name in ("Conv_1", "Conv_1_bn", "out_relu") else STEM


def layer_records(trunk: Any) -> tuple[LayerRecord, ...]:
    """What each layer of a trunk is, from the input on, the input layer left out."""
    layers = trunk.layers[1:]
    clean = _clean_layers(trunk)
    return tuple(
        LayerRecord(
            name=layer.name,
            kind=type(layer).__name__,
            block=block_of(layer.name),
            params=int(layer.count_params()),
            multiply_adds=_multiply_adds(layer),
            output_shape=tuple(int(size) for size in layer.output.shape[1:]),
            clean=layer.name in clean,
        )
        for layer in layers
    )


def _multiply_adds(layer: Any) -> int:
    """Of one image: each weight of a kernel counts once per place of the output it is used at."""
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return 0
    places = layer.output.shape[1:-1]  # (h, w); empty for a dense layer
    return math.prod(int(size) for size in (*kernel.shape, *places))


def _clean_layers(trunk: Any) -> set[str]:
    """The layers that no shortcut passes by."""
    place = {layer.name: at for at, layer in enumerate(trunk.layers)}
    furthest_from_before = 0
    clean = set()
    for layer in trunk.layers:
        at = place[layer.name]
        if furthest_from_before <= at:
            clean.add(layer.name)
        for node in layer._outbound_nodes:
            target = place.get(node.operation.name)
            if target is not None:
                furthest_from_before = max(furthest_from_before, target)
    return clean
