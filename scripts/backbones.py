"""The text of ``docs/backbones.md``, from the table of backbones; ``make schema`` writes it."""

from __future__ import annotations

from graftline.core.backbones import FAMILIES, STANFORD_DOGS, Family
from graftline.core.markdown import table

_INTRODUCTION = """\
# Backbones

<!-- Written by `make schema` from graftline/core/backbones.py; a test keeps it current. -->

A backbone is a network that was trained on many other images, and that a fresh head, which names
your classes, is put on. `backbone.name` takes any network in this table, by its name in Keras
Applications. What sets one apart from another stands in one place, `graftline/core/backbones.py`:
how its inputs are scaled, which layers make a block, which widths and sizes it has, and which file
holds its ImageNet weights. The rest of the pipeline (cutting, freezing, caching, converting,
training) treats all alike; `tests/model/test_backbones.py` holds one network of each make to the
same contract.

"""
_COLUMNS = (
    "`backbone.name`",
    "`backbone.alpha`",
    "smallest `preprocess.size_px`",
    "sizes with `weights: imagenet`",
    "its first layer takes",
    "usual last layer",
)
_NOTES = """
- **Scaling** is a layer inside the model, for each backbone the one that it was trained with;
  images always go in as they are, from 0 to 255.
- **Blocks** are numbered from the input on: `stem`, `block_0`, `block_1` and so on, `top`. A block
  is what the paper repeats: an inverted residual block, a residual block, a dense layer of DenseNet
  (each of its transitions counts as one more), the layers between two poolings of VGG.
  `reports/freezing/layers.csv` tells the block of every layer.
- **`backbone.cut: null`** cuts after the usual last layer. Any other layer will do that all the
  layers before it lead to; one on a side path (a shortcut's convolution, a squeeze) is refused.
- **`weights: imagenet`** is the file that Keras itself downloads. Where Keras publishes its MD5
  (all but MobileNetV2) the file must have it; its SHA-256 is recorded in `weights.lock.json` at the
  first download in any case, and must stay the same. Where Keras has one file per size, another
  size is refused; elsewhere one file serves all sizes, whichever it was trained at.
- **`weights: stanford-dogs`** are for {dogs_name} of alpha {dogs_alpha} alone. `random`, a path and
  an https address go with every backbone.
- BatchNormalization is the only layer that carries statistics in these networks, and it never
  trains.

Left out: EfficientNet (the first version scales its inputs in layers of its own, which differ
between random and ImageNet weights), ConvNeXt (its downsampling layers are networks inside the
network, which no cut can reach), Inception (its layers have no names from which a block could be
told) and NASNet (each of its cells reads the two before it, so that its blocks overlap).

```bash
python -m flows.train --set backbone.name=EfficientNetV2B0 --set backbone.cut=null \\
    --set backbone.weights=imagenet
```
"""


def backbones_page() -> str:
    """The reference of all backbones, as Markdown."""
    name, alpha = STANFORD_DOGS
    made = table(_COLUMNS, map(_cells, FAMILIES.values()), "l" * len(_COLUMNS))
    return f"{_INTRODUCTION}{made}\n" + _NOTES.format(dogs_name=name, dogs_alpha=alpha)


def _cells(family: Family) -> tuple[str, ...]:
    sizes = family.imagenet_sizes_px
    return (
        f"`{family.name}`",
        ", ".join(map(str, family.alphas)),
        str(family.smallest_px),
        ", ".join(map(str, sizes)) if sizes else "any",
        family.scaling.words,
        f"`{family.last_layer}`",
    )
