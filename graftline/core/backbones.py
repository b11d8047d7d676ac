"""The backbones to choose from: one table of what sets each Keras Applications family apart.

Everything else treats all backbones alike. A network says in the name of its input layer which line
of the table it comes from, through every file and every cut, so that no caller can feed it
images scaled for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graftline.core.errors import MissingOutputError

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_NOTHING = r"(?!)"
"""A pattern that no name matches."""


@dataclass(frozen=True)
class Scaling:
    """How a pixel from 0 to 255 becomes an input: ``value * scale + offset``.

    Args:
        words: What the result is, for readers.
        scale: One factor, or one per channel.
        offset: One summand, or one per channel, in the order of the result's channels.
        bgr: Whether the channels are turned round first, red last.
    """

    words: str
    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...]
    bgr: bool = False


PIXELS = Scaling("0 to 255", 1.0, 0.0)
"""As images are: no backbone's, but what resizing alone gives."""
MINUS_ONE_TO_ONE = Scaling("-1 to 1", 1 / 127.5, -1.0)
_BY_128 = Scaling("-1 to 0.992 (divided by 128)", 1 / 128, -1.0)
_STANDARD = Scaling(
    "ImageNet's mean 0, variance 1",
    tuple(1 / (255 * std) for std in _IMAGENET_STD),
    tuple(-mean / std for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)),
)
_CENTRED_BGR = Scaling(
    "0 to 255 less ImageNet's mean, blue first", 1.0, (-103.939, -116.779, -123.68), bgr=True
)


@dataclass(frozen=True)
class Family:
    """One backbone.

    Args:
        name: Of the constructor in ``keras.applications``, and in ``backbone.name``.
        scaling: What its first layer takes.
        block: Pattern at the start of a layer's name; its group tells blocks apart.
        last_layer: The usual cut: the last layer without the classifier.
        folder: Where Keras keeps its ImageNet files.
        file: Name of the ImageNet file; ``{alpha}`` and ``{size_px}`` may stand in it.
        md5: MD5 of that file by alpha, where Keras publishes it.
        top: Pattern of the first layers after the last block.
        alphas: Width multipliers; a family that has none takes 1.0 alone.
        smallest_px: The smallest input that Keras builds.
        imagenet_sizes_px: The sizes that have ImageNet files of their own; null if one file
            serves all.
        arguments: What else the constructor is given.
    """

    name: str
    scaling: Scaling
    block: str
    last_layer: str
    folder: str
    file: str
    md5: Mapping[float, str] = field(default_factory=dict)
    top: str = _NOTHING
    alphas: tuple[float, ...] = (1.0,)
    smallest_px: int = 32
    imagenet_sizes_px: tuple[int, ...] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def build(self, images: Any, alpha: float) -> Any:
        """The network without its classifier, with random weights.

        Args:
            images: A ``keras.Input`` (n, size, size, 3).
            alpha: One of ``alphas``.
        """
        import keras

        width = {"alpha": alpha} if len(self.alphas) > 1 else {}
        network = getattr(keras.applications, self.name)(
            input_shape=images.shape[1:],
            input_tensor=images,
            include_top=False,
            weights=None,
            **width,
            **self.arguments,
        )
        # From a given input Keras makes a network that takes a list of one; ours takes the one.
        return keras.Model(images, network.output, name=network.name)

    def imagenet_file(self, alpha: float, size_px: int) -> str:
        """The name of Keras's own file of ImageNet weights without the classifier."""
        return self.file.format(alpha=alpha, size_px=size_px)


def _mobilenet_v3(size: str, last_layer: str, md5: Mapping[float, str]) -> Family:
    """Howard et al. (2019)."""
    return Family(
        f"MobileNetV3{size}",
        MINUS_ONE_TO_ONE,
        block=r"(expanded_conv(?:_\d+)?)_",
        top="conv_1",
        last_layer=last_layer,
        folder="mobilenet_v3",
        file=f"weights_mobilenet_v3_{size.lower()}_224_{{alpha}}_float_no_top_v2.h5",
        md5=md5,
        alphas=(0.75, 1.0),
        # Its own scaling, which is one of the layers, would be a second definition.
        arguments={"include_preprocessing": False},
    )


def _efficientnet_v2(size: str, scaling: Scaling, md5: str) -> Family:
    """Tan and Le (2021)."""
    return Family(
        f"EfficientNetV2{size}",
        scaling,
        block=r"(block\d+[a-z]+)_",
        top="top_",
        last_layer="top_activation",
        folder="efficientnet_v2",
        file=f"efficientnetv2-{size.lower()}_notop.h5",
        md5={1.0: md5},
        arguments={"include_preprocessing": False},
    )


def _resnet(depth: int, md5: str) -> Family:
    """He et al. (2015)."""
    return Family(
        f"ResNet{depth}",
        _CENTRED_BGR,
        block=r"(conv\d_block\d+)_",
        last_layer="conv5_block3_out",
        folder="resnet",
        file=f"resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5={1.0: md5},
    )


def _resnet_v2(depth: int, md5: str) -> Family:
    """He et al. (2016)."""
    return Family(
        f"ResNet{depth}V2",
        MINUS_ONE_TO_ONE,
        block=r"(conv\d_block\d+)_",
        top="post_",
        last_layer="post_relu",
        folder="resnet",
        file=f"resnet{depth}v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5={1.0: md5},
    )


def _densenet(depth: int, md5: str) -> Family:
    """Huang et al. (2017)."""
    return Family(
        f"DenseNet{depth}",
        _STANDARD,
        block=r"(conv\d_block\d+|pool[234])_",
        top=r"(bn|relu)$",
        last_layer="relu",
        folder="densenet",
        file=f"densenet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5={1.0: md5},
    )


def _vgg(depth: int, md5: str) -> Family:
    """Simonyan and Zisserman (2014)."""
    return Family(
        f"VGG{depth}",
        _CENTRED_BGR,
        block=r"(block\d+)_",
        last_layer="block5_pool",
        folder=f"vgg{depth}",
        file=f"vgg{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5={1.0: md5},
    )


_MOBILENET_V2 = Family(  # Sandler et al. (2018)
    "MobileNetV2",
    MINUS_ONE_TO_ONE,
    block=r"(expanded_conv|block_\d+)_",
    top="Conv_1",
    last_layer="out_relu",
    folder="mobilenet_v2",
    file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size_px}_no_top.h5",
    alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    imagenet_sizes_px=(96, 128, 160, 192, 224),
)
_XCEPTION = Family(  # Chollet (2017)
    "Xception",
    MINUS_ONE_TO_ONE,
    block=r"(block\d+)_",
    last_layer="block14_sepconv2_act",
    folder="xception",
    file="xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
    md5={1.0: "b0042744bf5b25fce3cb969f33bebb97"},
    smallest_px=71,
)
FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        _MOBILENET_V2,
        _mobilenet_v3(
            "Small",
            "activation_17",
            {0.75: "ebdb5cc8e0b497cd13a7c275d475c819", 1.0: "d3e8ec802a04aa4fc771ee12a9a9b836"},
        ),
        _mobilenet_v3(
            "Large",
            "activation_19",
            {0.75: "40af19a13ebea4e2ee0c676887f69a2e", 1.0: "07fb09a5933dd0c8eaafa16978110389"},
        ),
        _efficientnet_v2("B0", _STANDARD, "893217f2bb855e2983157299931e43ff"),
        _efficientnet_v2("B1", _STANDARD, "0e80663031ca32d657f9caa404b6ec37"),
        _efficientnet_v2("B2", _STANDARD, "1dfe2e7a5d45b6632553a8961ea609eb"),
        _efficientnet_v2("B3", _STANDARD, "f6abf7b5849ac99a89b50dd3fd532856"),
        _efficientnet_v2("S", _BY_128, "af0682fb74e8c54910f2d4393339c070"),
        _resnet(50, "4d473c1dd8becc155b73f8504c6f6626"),
        _resnet(101, "88cf7a10940856eca736dc7b7e228a21"),
        _resnet(152, "ee4c566cf9a93f14d82f913c2dc6dd0c"),
        _resnet_v2(50, "fac2f116257151a9d068a22e544a4917"),
        _resnet_v2(101, "c0ed64b8031c3730f411d2eb4eea35b5"),
        _resnet_v2(152, "ed17cf2e0169df9d443503ef94b23b33"),
        _densenet(121, "30ee3e1110167f948a6b9946edeeb738"),
        _densenet(169, "b8c4d4c20dd625c148057b9ff1c1176b"),
        _densenet(201, "c13680b51ded0fb44dff2d8f86ac8bb1"),
        _vgg(16, "6d6bbae143d832006294945121d1f1fc"),
        _vgg(19, "253f8cb515780f3b799900260a226db6"),
        _XCEPTION,
    )
}
"""The table, by name."""
DEFAULT = _MOBILENET_V2.name
DEFAULT_CUT = "block_13_expand_relu"
"""Where that is cut unless the parameters say it: what was measured as best for small data sets."""
STANFORD_DOGS = (_MOBILENET_V2.name, 1.0)
"""The one backbone, by name and width, that there are Stanford Dogs weights for."""


def usual_cut(name: object) -> str | None:
    """After which layer a backbone is cut where nobody says it; None after its last one."""
    return DEFAULT_CUT if name == DEFAULT else None


def family_of(network: Any) -> Family:
    """The line of the table that a network was built from, whole, cut, or read from a file.

    Raises:
        MissingOutputError: If its input layer names none.
    """
    name = network.input.name
    if name not in FAMILIES:
        raise MissingOutputError(
            f"the network's input layer is named {name!r}, which is none of the backbones",
            where="models/assembled",
            allowed=", ".join(FAMILIES),
            fix="run dvc repro, which writes the network anew",
        )
    return FAMILIES[name]
