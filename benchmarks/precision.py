"""Images per second of fine-tuning in 32 and in 16 bits: python -m benchmarks.precision."""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from graftline.core.params import HeadParams, LastBlocks, TrainParams, TuneParams
from graftline.core.records import Assembled
from graftline.network.classifier import build_classifier
from graftline.network.cutting import build_base, cut_after, layer_records
from graftline.network.freeze_plans import Strategy, plan_freezing
from graftline.network.unfreezing import thaw, tuned_part
from graftline.training.loop import Loop
from graftline.training.phases import tuning_groups

_STEPS, _BATCH = 4, 32


def main() -> None:
    """Times both, in turn, and prints a table."""
    options = _options()
    table = Table(title=f"fine-tuning MobileNetV2, {options.size_px} px, batches of {_BATCH}")
    for column in ("trains", "float32, images/s", "bfloat16, images/s", "ratio"):
        table.add_column(column, justify="right")
    for name, strategy in (("everything", "none"), ("last 6 blocks", LastBlocks(last_blocks=6))):
        loops = [tuning_loop(options.size_px, strategy, kind) for kind in ("float32", "bfloat16")]
        rounds = [[rate(loop) for loop in loops] for _ in range(options.rounds + 1)][1:]
        rates = [statistics.median(column) for column in zip(*rounds, strict=True)]
        ratio = statistics.median(half / full for full, half in rounds)
        table.add_row(name, *(f"{rate:.0f}" for rate in rates), f"{ratio:.2f}")
    Console().print(table)


def tuning_loop(size_px: int, strategy: Strategy, precision: str) -> Loop:
    """A loop over MobileNetV2 with random weights, of which a strategy says what trains."""
    base = build_base(size_px, 1.0, seed=0)
    layers = layer_records(base)
    assembled = Assembled(
        backbone="MobileNetV2",
        alpha=1.0,
        size_px=size_px,
        cut=layers[-1].name,
        weights="random",
        weights_sha256=None,
        backbone_digest="",
        layers=layers,
        pooling="average",
        head_units=(256,),
        dropout=0.3,
        classes=tuple("0123456789"),
    )
    classifier = build_classifier(cut_after(base, layers[-1].name), HeadParams(), 10, seed=0)
    plan = plan_freezing(assembled, strategy)
    thaw(classifier, plan)
    groups = tuning_groups(classifier, layers, TuneParams(learning_rate=1e-6), steps=1000)
    network = tuned_part(classifier, plan.boundary)
    return Loop(network, groups, TrainParams(), _BATCH, np.zeros(_BATCH, np.int32), 0, precision)


def rate(loop: Loop, steps: int = _STEPS) -> float:
    """Images per second of a few steps."""
    shape: tuple[Any, ...] = loop.network.input.shape[1:]
    chance = np.random.default_rng(0)
    if loop.network.input.dtype == "uint8":
        examples: Any = chance.integers(0, 256, (steps, _BATCH, 28, 28, 1), dtype=np.uint8)
    else:
        examples = chance.random((steps, _BATCH, *shape), np.float32)
    labels = chance.integers(0, 10, (steps, _BATCH), dtype=np.int32)
    begun_s = time.monotonic()
    # The device may be at work still: reading the loss waits for it.
    float(loop.train_on(examples, labels)[0])
    return steps * _BATCH / (time.monotonic() - begun_s)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision")
    parser.add_argument("--size-px", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
