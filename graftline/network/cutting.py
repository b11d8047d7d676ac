"""The backbone: building it, cutting it, and what its layers are.

A backbone is a stem, blocks in a row (MobileNetV2: seventeen inverted residual blocks, Sandler et
al., 2018, table 2) and a top; :mod:`graftline.core.backbones` says how a layer's name gives its
block.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any

from graftline.core.backbones import DEFAULT, FAMILIES, Family, family_of
from graftline.core.errors import ParamsError
from graftline.core.records import LayerRecord

STEM, TOP = "stem", "top"
_MAPS_RANK = 4
"""Of feature maps: (n, h, w, c)."""
_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")


def build_base(size_px: int, alpha: float, seed: int, name: str = DEFAULT) -> Any:
    """A backbone without its classifier and with random weights.

    Args:
        size_px: Height and width of the input.
        alpha: Width multiplier.
        seed: Seed of the random weights.
        name: Which backbone, as in ``backbone.name``.

    Returns:
        A ``keras.Model`` from float32 (n, size_px, size_px, 3), scaled as the family says, to
        feature maps. Its input layer bears the family's name.
    """
    import keras

    # Keras numbers nameless layers through a process's life, and the names stand in the files.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    return FAMILIES[name].build(keras.Input((size_px, size_px, 3), name=name), alpha)


def cut_after(base: Any, layer_name: str) -> Any:
    """The base up to and with the named layer, as a model named ``backbone``.

    Raises:
        ParamsError: If there is no such layer, or it lies on a side path; the message names the
            nearest ones.
    """
    import keras

    names = [layer.name for layer in base.layers]
    check_layer(layer_name, names[1:], "backbone.cut")
    backbone = keras.Model(base.input, base.get_layer(layer_name).output, name="backbone")
    before = names[: names.index(layer_name) + 1]
    if len(backbone.layers) != len(before) or len(backbone.output.shape) != _MAPS_RANK:
        clean = _clean_layers(base)
        behind = [name for name in names[len(before) :] if name in clean]
        passed = [name for name in before[1:] if name in clean]
        raise ParamsError(
            f"backbone.cut: the layer {layer_name!r} lies on a side path, and is no cut",
            where="params.yaml",
            allowed="a layer that gives feature maps, and that all before it lead to",
            fix=f"take one of the nearest, {', '.join([*passed[-2:], *behind[:2]])}",
        )
    return backbone


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


def blocks_by_layer(family: Family, layer_names: Iterable[str]) -> dict[str, str]:
    """The block that each layer belongs to: ``stem``, ``block_0`` and so on, or ``top``.

    Args:
        family: What the backbone is.
        layer_names: From the input on. Layers without a telling name (``activation_3``) go with
            the one before them.
    """
    block, blocks = STEM, dict[str, str]()
    of_group: dict[str, str] = {}
    for name in layer_names:
        if found := re.match(family.block, name):
            block = of_group.setdefault(found[1], f"block_{len(of_group)}")
        elif re.match(family.top, name):
            block = TOP
        blocks[name] = block
    return blocks


def layer_records(backbone: Any) -> tuple[LayerRecord, ...]:
    """What each layer of a backbone is, from the input on, the input layer left out."""
    layers = backbone.layers[1:]
    clean = _clean_layers(backbone)
    blocks = blocks_by_layer(family_of(backbone), (layer.name for layer in layers))
    return tuple(
        LayerRecord(
            name=layer.name,
            kind=type(layer).__name__,
            block=blocks[layer.name],
            params=int(layer.count_params()),
            multiply_adds=multiply_adds_of(layer),
            output_shape=tuple(int(size) for size in layer.output.shape[1:]),
            clean=layer.name in clean,
        )
        for layer in layers
    )


def multiply_adds_of(layer: Any) -> int:
    """Of one image: each weight of a kernel counts once per place of the output it is used at."""
    kernels = [getattr(layer, name) for name in _KERNELS if hasattr(layer, name)]
    places = layer.output.shape[1:-1]  # (h, w); empty for a dense layer
    # A kernel's shape is (h, w, in, out); in is of one group alone, or out is 1 if depthwise.
    return sum(math.prod(map(int, (*kernel.shape, *places))) for kernel in kernels)


def _clean_layers(backbone: Any) -> set[str]:
    """The layers that no shortcut passes by."""
    # Among the operations are sums and products that are no layers (MobileNetV3's hard sigmoid).
    place = {id(operation): at for at, operation in enumerate(backbone.operations)}
    furthest_from_before = 0
    clean = set()
    for at, operation in enumerate(backbone.operations):
        if furthest_from_before <= at:
            clean.add(operation.name)
        for node in operation._outbound_nodes:
            target = place.get(id(node.operation), 0)
            furthest_from_before = max(furthest_from_before, target)
    return clean & {layer.name for layer in backbone.layers}
