"""Time to the accuracy of a tutorial on MNIST: its listing, the Keras guide's way, and Graftline.

The listing is run as its reader would: a small convolutional network in an eager GradientTape loop
that makes a new Adam at each step, batches of 32, ten epochs, each with a look at the test images.
The guide's way is a frozen MobileNetV2 inside ``fit``. Both are timed on slices, before and after
Graftline's run, and scaled to ten epochs; ``--whole`` runs the listing to its end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.checkouts import copied_checkout, run
from benchmarks.report import Table
from graftline.core.progress import progress
from graftline.core.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPOCHS, BATCH = 10, 32
GOAL_LISTING, GOAL_GUIDE = 10.0, 20.0
GOAL_TUNED = 0.995
LISTING, LISTING_ONE_ADAM, GUIDE, GUIDE_SMALL, GRAFTLINE, TUNED = (
    "the listing",
    "the listing with one Adam",
    "the Keras guide's way, 96 px",
    "the Keras guide's way, 64 px",
    "Graftline",
    "Graftline, tuned",
)
_RATE = 1e-3
_WARM_STEPS = 30
_SLICE_STEPS = 300
_ONE_ADAM_STEPS = 150
_GUIDE_STEPS = 75
_TEST_BATCHES = 60
_GUIDE_SIZES_PX = {GUIDE: 96, GUIDE_SMALL: 64}
"""The smallest that Keras has ImageNet weights for, and that of ``examples/mnist``."""


@dataclass(frozen=True)
class Digits:
    """MNIST, official split: images uint8 (n, 28, 28, 1), labels (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Pace:
    """How fast a loop goes.

    Args:
        step_s: Seconds for one training step.
        test_batch_s: Seconds for one batch of test images.
    """

    step_s: float
    test_batch_s: float


def scaled_s(pace: Pace, train_images: int, test_images: int) -> float:
    """Seconds of ten epochs, each with one look at all test images."""
    steps = -(-train_images // BATCH)
    test_batches = -(-test_images // BATCH)
    return EPOCHS * (steps * pace.step_s + test_batches * pace.test_batch_s)


def measure(*, whole: bool) -> dict[str, Any]:
    """All of them, in turn.

    Args:
        whole: Whether the listing is run to its end, too.
    """
    digits = _digits()
    slices: dict[str, tuple[Callable[[], Pace], int]] = {
        LISTING: (lambda: _listing_pace(digits, _SLICE_STEPS), 2 * _SLICE_STEPS),
        LISTING_ONE_ADAM: (
            lambda: _listing_pace(digits, _ONE_ADAM_STEPS, new_adam=False),
            2 * _ONE_ADAM_STEPS,
        ),
    }
    for name, size_px in _GUIDE_SIZES_PX.items():
        slices[name] = (_guide(digits, size_px), 2 * _GUIDE_STEPS)
    paces: dict[str, list[Pace]] = {name: [] for name in slices}
    with progress("mnist", 2 * len(slices) + 2, "measurements") as bar:
        for name, (pace, _) in slices.items():
            bar.advance(1, name)
            paces[name].append(pace())
        bar.advance(1, GRAFTLINE)
        graftline = _graftline("mnist")
        bar.advance(1, TUNED)
        tuned = _graftline("mnist-tuned")
        for name, (pace, _) in reversed(slices.items()):
            bar.advance(1, name)
            paces[name].append(pace())
    train_images, test_images = len(digits.images), len(digits.test_images)
    results: dict[str, Any] = {
        "graftline": graftline,
        "tuned": tuned,
        "scaled": {
            name: {
                "steps_timed": steps,
                "seconds": [
                    round(scaled_s(pace, train_images, test_images), 1) for pace in paces[name]
                ],
            }
            for name, (_, steps) in slices.items()
        },
    }
    if whole:
        results["whole"] = _whole_listing(digits)
    return results


def _digits() -> Digits:
    from graftline.data.mnist import FILES, obtain

    folder = Workspace.here().var / "mnist"
    obtain(folder)
    arrays = []
    for file in FILES:
        header = 16 if "images" in file.name else 8
        arrays.append(np.fromfile(folder / file.name, np.uint8, offset=header))
    images, labels, test_images, test_labels = arrays
    return Digits(
        images.reshape(-1, 28, 28, 1), labels, test_images.reshape(-1, 28, 28, 1), test_labels
    )


def _graftline(example: str) -> dict[str, Any]:
    """``make mnist`` in a copy of the checkout that has never run, or another of its examples."""
    folder = Path.cwd() / "var" / "mnist"
    with copied_checkout() as root:
        done = run(
            root,
            ["graftline.data.mnist", str(folder)],
            ["graftline", "run", "-C", f"examples/{example}"],
        )
        project = Workspace(root / "examples" / example)
        metrics = json.loads(project.metrics.read_text(encoding="utf-8"))
    return {"seconds": round(done.seconds, 1), "test_accuracy": metrics["test_accuracy"]}


class _Listing:
    """The listing's loop.

    Args:
        digits: What it trains on.
        new_adam: Whether each step makes an optimizer of its own, as the listing does.
    """

    def __init__(self, digits: Digits, *, new_adam: bool) -> None:
        import keras
        import tensorflow as tf
        from keras import layers

        keras.utils.set_random_seed(0)
        self.network = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(32, (3, 3), activation="relu"),
                layers.MaxPooling2D((2, 2)),
                layers.Flatten(),
                layers.Dense(256, activation="relu"),
                layers.Dropout(0.5),
                layers.Dense(10, activation="softmax"),
            ]
        )
        self._loss = keras.losses.CategoricalCrossentropy()
        self._adam = None if new_adam else keras.optimizers.Adam(_RATE)
        self.train_set = self._batches(tf, digits.images, digits.labels).shuffle(1875)
        self.test_set = self._batches(tf, digits.test_images, digits.test_labels)

    def step(self, images: Any, labels: Any) -> None:
        """One training step, eagerly."""
        import keras
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self._loss(labels, self.network(images, training=True))
        variables = self.network.trainable_variables
        gradients = tape.gradient(loss, variables)
        adam = self._adam or keras.optimizers.Adam(_RATE)
        adam.apply_gradients(zip(gradients, variables, strict=True))

    def right(self, images: Any, labels: Any) -> int:
        """How many of a batch are named rightly; the loss is computed as well."""
        import tensorflow as tf

        answers = self.network(images, training=False)
        self._loss(labels, answers)
        hits = tf.argmax(answers, axis=1) == tf.argmax(labels, axis=1)
        return int(tf.math.count_nonzero(hits))

    @staticmethod
    def _batches(tf: Any, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Any:
        scaled = images.astype(np.float32) / 255
        one_hot = np.eye(10, dtype=np.float32)[labels]
        return tf.data.Dataset.from_tensor_slices((scaled, one_hot)).batch(BATCH)


def _listing_pace(digits: Digits, steps: int, *, new_adam: bool = True) -> Pace:
    listing = _Listing(digits, new_adam=new_adam)
    batches = iter(listing.train_set)
    for _ in range(_WARM_STEPS):
        listing.step(*next(batches))
    step_s = _each_s(lambda: listing.step(*next(batches)), steps)
    tests = iter(listing.test_set)
    listing.right(*next(tests))
    return Pace(step_s, _each_s(lambda: listing.right(*next(tests)), _TEST_BATCHES))


def _whole_listing(digits: Digits) -> dict[str, Any]:
    listing = _Listing(digits, new_adam=True)
    accuracies = []
    started_s = time.perf_counter()
    with progress("the whole listing", EPOCHS * len(digits.images), "images") as bar:
        for _ in range(EPOCHS):
            for images, labels in listing.train_set:
                listing.step(images, labels)
                bar.advance(len(images))
            right = sum(listing.right(*batch) for batch in listing.test_set)
            accuracies.append(right / len(digits.test_images))
    return {"seconds": round(time.perf_counter() - started_s, 1), "test_accuracies": accuracies}


def _guide(digits: Digits, size_px: int) -> Callable[[], Pace]:
    """The guide's network; what comes back times a slice of its ``fit``."""
    import tempfile

    import keras
    from keras import layers

    from benchmarks.backbones import build_backbone

    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
        backbone = build_backbone(size_px, 1.0, "out_relu", Path(folder)).model
    backbone.trainable = False
    images = keras.Input((28, 28, 1), dtype="uint8")
    hidden = layers.Dense(256, activation="relu")(backbone(images, training=False))
    answers = layers.Dense(10, activation="softmax")(layers.Dropout(0.2)(hidden))
    model = keras.Model(images, answers)
    model.compile(keras.optimizers.Adam(_RATE), "categorical_crossentropy", metrics=["accuracy"])
    labels, test_labels = (np.eye(10)[found] for found in (digits.labels, digits.test_labels))

    def fit(batches: int) -> float:
        count = batches * BATCH
        started_s = time.perf_counter()
        model.fit(digits.images[:count], labels[:count], batch_size=BATCH, verbose=0)
        return time.perf_counter() - started_s

    def test(batches: int) -> float:
        count = batches * BATCH
        started_s = time.perf_counter()
        model.evaluate(digits.test_images[:count], test_labels[:count], BATCH, verbose=0)
        return time.perf_counter() - started_s

    def pace() -> Pace:
        fit(5)
        test(5)
        tests = _GUIDE_STEPS // 2
        return Pace(fit(_GUIDE_STEPS) / _GUIDE_STEPS, test(tests) / tests)

    return pace


def _each_s(action: Callable[[], object], times: int) -> float:
    started_s = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - started_s) / times


def tables(results: dict[str, Any]) -> list[Table]:
    """Seconds of each way, and how many times Graftline's they are."""
    ours_s = results["graftline"]["seconds"]
    commands = {"graftline": "`make mnist`", "tuned": "the same in `examples/mnist-tuned`"}
    rows = [
        (
            f"Graftline: {command} from a cold start",
            "whole",
            f"{found['seconds']:.0f}",
            f"{found['seconds'] / ours_s:.1f}",
            f"{100 * found['test_accuracy']:.2f} %",
        )
        for name, command in commands.items()
        if (found := results[name])
    ]
    for name, found in results["scaled"].items():
        before_s, after_s = found["seconds"]
        seconds = (before_s + after_s) / 2
        rows.append(
            (
                f"{name}, ten epochs",
                f"scaled from {found['steps_timed']} steps",
                f"{seconds:.0f} ({min(before_s, after_s):.0f}, {max(before_s, after_s):.0f})",
                f"{seconds / ours_s:.1f}",
                "",
            )
        )
    if whole := results.get("whole"):
        rows.append(
            (
                "the listing, ten epochs",
                "whole",
                f"{whole['seconds']:.0f}",
                f"{whole['seconds'] / ours_s:.1f}",
                f"{100 * whole['test_accuracies'][-1]:.2f} %",
            )
        )
    heads = ("way", "measured", "seconds", "times Graftline's", "test accuracy")
    return [Table("MNIST, 60 000 images to train on, official test split", heads, rows)]


def remarks(results: dict[str, Any]) -> list[str]:
    """What the goals come to, and what was scaled."""
    ours_s = results["graftline"]["seconds"]
    tuned = results["tuned"]
    found = {
        name: sum(results["scaled"][name]["seconds"]) / 2 / ours_s for name in (LISTING, GUIDE)
    }
    tuned_share = tuned["seconds"] / ours_s / found[LISTING]
    return [
        f"Graftline is {found[LISTING]:.1f} times as fast as ten epochs of the listing (goal "
        f"{GOAL_LISTING:g}) and {found[GUIDE]:.1f} times as fast as the guide's way (goal "
        f"{GOAL_GUIDE:g}). Tuned, it comes to {100 * tuned['test_accuracy']:.2f} % (goal "
        f"{100 * GOAL_TUNED:g} %) in {tuned_share:.2f} of the listing's time (goal 1). Scaled: a "
        f"slice of steps is timed after {_WARM_STEPS} others, once before Graftline's runs and "
        f"once after them (both in brackets), and multiplied up to {EPOCHS} x 1875 steps and "
        f"{EPOCHS} looks at the 10 000 test images, whose batches are timed on a slice too. The "
        "tutorial reports 97.87 %."
    ]


def draw(results: dict[str, Any]) -> Figure:
    """Seconds of each way."""
    from graftline.evaluation.style import BLUE, MUTED, new_figure, styled, thousands

    bars = {GRAFTLINE: results["graftline"]["seconds"], TUNED: results["tuned"]["seconds"]}
    bars |= {name: sum(found["seconds"]) / 2 for name, found in results["scaled"].items()}

    @styled
    def drawn() -> Figure:
        figure = new_figure(
            "MNIST: seconds to a trained classifier",
            "Graftline's whole run from a cold start; the others ten epochs, scaled",
            7.5,
            2.9,
        )
        axes = figure.add_subplot()
        for at, (name, seconds) in enumerate(bars.items()):
            axes.barh(at, seconds, color=BLUE if name in (GRAFTLINE, TUNED) else MUTED, height=0.65)
            axes.annotate(
                f"{thousands(seconds)} s",
                (seconds, at),
                (4, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_yticks(range(len(bars)), list(bars))
        axes.invert_yaxis()
        axes.set_xlim(0, max(bars.values()) * 1.15)
        axes.set_xlabel("seconds")
        axes.grid(axis="y", visible=False)
        return figure

    return drawn()
