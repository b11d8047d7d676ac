"""Whether the frozen part may compute in 16 bits: by a probe on training images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftline.compute.devices import resolved_device
from graftline.core.errors import ParamsError
from graftline.core.files import scratch_folder
from graftline.core.params import ComputeParams
from graftline.core.records import Assembled, ComputedIn
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.evaluation.paired import LEVEL, p_worse
from graftline.network.runners.choosing import computing_of, gaining, possible, what_it_takes


@dataclass(frozen=True)
class PrecisionChoice:
    """What the frozen part computes in.

    Args:
        precision: Of its layers.
        reason: Why, in a sentence; None where the parameters ask for float32.
    """

    precision: ComputedIn
    reason: str | None


def choose_precision(
    workspace: Workspace,
    assembled: Assembled,
    compute: ComputeParams,
    layer: str,
    most_images: int,
    seed: int,
) -> PrecisionChoice:
    """What ``compute.precision`` comes to on this machine and these images.

    For ``auto`` the features after a layer are computed in float32 and in each precision that is
    faster here, the fastest first, and the probe answers each training image from those of other
    folds. The first that answers no worse is taken, by the exact paired test and at the level by
    which candidates of the race are given up. What is faster follows from what the machine is: time
    is not measured, or two runs could differ.

    Args:
        workspace: Where ``preprocess`` and ``assemble`` left their files.
        assembled: The backbone.
        compute: ``device`` and ``precision`` are read.
        layer: After which the features are taken.
        most_images: That are looked at.
        seed: Of their choice, and of the probe.

    Raises:
        ParamsError: If a device or precision is asked for that this machine has not.
    """
    on_gpu = resolved_device(compute.device) == "gpu"
    if compute.precision == "float32":
        return PrecisionChoice("float32", None)
    if compute.precision == "bfloat16":
        if "bfloat16" not in possible(on_gpu):
            raise ParamsError(
                f"compute.precision: bfloat16, which {what_it_takes(on_gpu)}",
                where="compute.precision",
                allowed="float32, and auto, which takes 16 bits where they are there",
                fix="set compute.precision to auto; graftline doctor tells what was found",
            )
        return PrecisionChoice("bfloat16", "bfloat16, as compute.precision says")
    faster = gaining(on_gpu)
    if not faster:
        return PrecisionChoice("float32", f"float32, since bfloat16 {what_it_takes(on_gpu)}")
    return _probed(workspace, assembled, compute.device, layer, most_images, seed, faster)


def _probed(
    workspace: Workspace,
    assembled: Assembled,
    device: str,
    layer: str,
    most_images: int,
    seed: int,
    faster: tuple[ComputedIn, ...],
) -> PrecisionChoice:
    # Of a plan that looks at no image, nothing but the plan is imported.
    from graftline.network.assembled import FROZEN
    from graftline.selection.depths import depth_at
    from graftline.selection.features import outputs_in_order, pooled_features
    from graftline.selection.folds import dealt_folds, training_sample
    from graftline.selection.probe import out_of_fold
    from graftline.selection.profile import at_each

    images = PackedImages.open(workspace.preprocessed)
    sample = training_sample(images, most_images, seed)
    labels = images.labels[sample]
    folds, there = dealt_folds(labels), workspace.assembled / FROZEN

    def features(precision: ComputedIn) -> NDArray[np.float32]:
        computing = computing_of(device, precision)
        if layer == assembled.cut and computing.takes_litert:
            with computing.open(there) as runner:
                return outputs_in_order(runner, images, sample)
        depth = depth_at(assembled, layer)
        with scratch_folder() as scratch:
            return pooled_features(workspace, assembled, [depth], sample, scratch, computing)[0]

    precisions: tuple[ComputedIn, ...] = ("float32", *faster)
    answers = at_each(
        [features(one) for one in precisions], lambda one: out_of_fold(one, labels, folds, seed)
    )
    full, *others = answers == labels
    found = []
    for precision, right in zip(faster, others, strict=True):
        p_value = p_worse(right, full)
        found.append(f"{precision} {right.sum():,} (p = {p_value:.2f})")
        if p_value >= LEVEL:
            return PrecisionChoice(precision, _told(precision, layer, len(labels), full, found))
    return PrecisionChoice("float32", _told("float32", layer, len(labels), full, found))


def _told(
    chosen: ComputedIn, layer: str, images: int, full: NDArray[np.bool_], found: list[str]
) -> str:
    return (
        f"{chosen}: of {images:,} training images a probe after {layer} names right, in float32 "
        f"{full.sum():,}, in {', in '.join(found)}; below p = {LEVEL:g} it would count as a loss"
    )
