"""Whether caching feature maps in 16 bits loses accuracy: the same training from both types.

Run with ``python -m benchmarks.feature_precision --params FILE``. Everything up to ``freeze`` is
done once, in a folder of its own; ``extract`` and ``train`` for each type and seed.
The validation split decides; the test split is not touched.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from graftline.core.params import Params, params_from_record, read_record, with_overrides
from graftline.core.records import Features, Trained
from graftline.core.workspace import Workspace

_DTYPES = ("float32", "float16")


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--strategy", default="last_blocks: 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        _prepare(workspace, _params(options, 0, "float32"))
        results = {
            (seed, dtype): _measure(workspace, _params(options, seed, dtype))
            for seed in options.seeds
            for dtype in _DTYPES
        }
    _show(options, results)


class _Result:
    """One training: its record, what its maps took, and the maps themselves."""

    def __init__(self, features: Features, trained: Trained, maps: np.ndarray, wall_s: float):
        self.features, self.trained, self.maps, self.wall_s = features, trained, maps, wall_s


def _params(options: argparse.Namespace, seed: int, dtype: str) -> Params:
    record = read_record(options.params)
    for section, key in (("data", "path"), ("backbone", "weights")):
        named = record[section].get(key)
        if named and Path(named).exists():
            record[section][key] = str(Path(named).resolve())
    record["freeze"]["strategy"] = options.strategy
    fixed = [f"seed={seed}", f"extract.dtype={dtype}"]
    return params_from_record(with_overrides(record, [*options.overrides, *fixed]), "here")


def _prepare(workspace: Workspace, params: Params) -> None:
    from graftline.steps.assemble import assemble
    from graftline.steps.freeze import freeze
    from graftline.steps.load import load
    from graftline.steps.preprocess import preprocess

    for step in (load, preprocess, assemble, freeze):
        step(workspace, params)


def _measure(workspace: Workspace, params: Params) -> _Result:
    from graftline.steps.assemble import assemble
    from graftline.steps.extract import extract
    from graftline.steps.train import train

    assemble(workspace, params)  # The seed is also that of the head's first weights.
    features = extract(workspace, params)
    started_s = time.perf_counter()
    trained = train(workspace, params)
    wall_s = time.perf_counter() - started_s
    line = f"{trained.validation_accuracy:.4f}, loss {trained.validation_loss:.5f}"
    print(f"seed {params.seed}, {params.extract.dtype}: {line}, {wall_s:.1f} s", flush=True)
    maps = np.load(workspace.features / "validation.npy").astype(np.float32)
    if params.extract.dtype == "float32" and features.boundary is not None:
        print(_rounding(workspace, maps, features.boundary), flush=True)
    return _Result(features, trained, maps, wall_s)


def _rounding(workspace: Workspace, maps: np.ndarray, boundary: str) -> str:
    """What a network trained on 32 bits answers when the same maps come in 16."""
    from scipy.special import softmax

    from graftline.network.keras_io import load_model
    from graftline.network.unfreezing import tuned_part

    network = tuned_part(load_model(workspace.trained / "model.keras"), boundary)
    exact, rounded = (
        softmax(network.predict(values, verbose=0), axis=1)
        for values in (maps, maps.astype(np.float16).astype(np.float32))
    )
    changed = np.count_nonzero(exact.argmax(axis=1) != rounded.argmax(axis=1))
    off = np.abs(exact - rounded).max()
    return f"its maps rounded: {changed} of {len(maps)} answers change, probabilities by {off:.2g}"


def _show(options: argparse.Namespace, results: dict[tuple[int, str], _Result]) -> None:
    first = next(iter(results.values())).features
    title = f"{options.params}, {options.strategy}: outputs of {first.boundary} {first.shape}"
    table = Table(title=title)
    for name in ("seed", "type", "validation accuracy", "validation loss", "training, s"):
        table.add_column(name, justify="right")
    for (seed, dtype), result in results.items():
        trained = result.trained
        table.add_row(
            str(seed),
            dtype,
            f"{trained.validation_accuracy:.4f}",
            f"{trained.validation_loss:.5f}",
            f"{result.wall_s:.1f}",
        )
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    seed = options.seeds[0]
    exact, rounded = results[seed, "float32"].maps, results[seed, "float16"].maps
    off = np.abs(rounded - exact)
    large = np.abs(exact) > 1e-3 * np.abs(exact).max()
    relative = (off[large] / np.abs(exact[large])).max()
    console.print(
        f"validation maps: largest value {np.abs(exact).max():.4g}; largest difference "
        f"{off.max():.3g}; largest relative difference {relative:.3g} among values above a "
        "thousandth of the largest"
    )


if __name__ == "__main__":
    main()
