"""The ways in: each takes a folder with hostile files, and raises what the product raises.

A door is made once per process, which is when what it needs is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Door = Callable[[Path, Sequence[str]], None]
MAX_PX = 1_000_000


def image() -> Door:
    """An image file, as every source and ``graftline predict`` read it."""
    import numpy as np
    from PIL import Image

    from graftline.data.decoding import decode

    Image.init()

    def enter(folder: Path, words: Sequence[str]) -> None:
        pixels = decode((folder / "image").read_bytes(), MAX_PX)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3 and pixels.shape[2] in (1, 3) and 0 not in pixels.shape

    return enter


def loading(source: str, path: str = "source") -> Callable[[], Door]:
    """A source, as the step ``load`` reads it."""

    def make() -> Door:
        import pyarrow.parquet  # noqa: F401

        from graftline.core.params import params_from_record
        from graftline.core.workspace import Workspace
        from graftline.steps.load import load

        def enter(folder: Path, words: Sequence[str]) -> None:
            data: dict[str, Any] = {"source": source, "path": str(folder / path)}
            data |= {"on_corrupt": "skip", "max_image_px": MAX_PX}
            if source == "manifest":
                data["manifest"] = words[0]
            record = {"backbone": {"weights": "random"}, "data": data}
            load(Workspace(folder / "work"), params_from_record(record, "the test"))

        return enter

    return make


def params() -> Door:
    """``params.yaml`` with overrides, as every flow checks and writes it."""
    from graftline.core.params import read_params
    from graftline.core.workspace import Workspace
    from graftline.orchestration.overrides import plan_overrides

    def enter(folder: Path, words: Sequence[str]) -> None:
        workspace = Workspace(folder)
        change = plan_overrides(workspace, None, words)
        change.write(workspace)
        assert read_params(workspace.params_file) == change.params, "another file was written"

    return enter


def command() -> Door:
    """The command line ``graftline``; ``@`` stands for the folder."""
    from graftline.cli.main import main
    from graftline.core.errors import UserError

    def enter(folder: Path, words: Sequence[str]) -> None:
        before = os.getcwd()
        os.chdir(folder)
        try:
            code = main([word.replace("@", str(folder)) for word in words])
        except SystemExit as ended:  # The parser's own way of refusing, and of --help.
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            os.chdir(before)
        if code == 2:
            raise UserError("refused")
        assert code == 0, f"exit code {code}"

    return enter


def hdf5() -> Door:
    """Base weights, looked through before Keras reads them."""
    from graftline.core.errors import WeightsError
    from graftline.network.h5_safety import refuse_hostile

    def enter(folder: Path, words: Sequence[str]) -> None:
        try:
            refuse_hostile(folder / "weights.h5")
        except WeightsError:
            raise
        except Exception as error:  # As network.pretrained.load_into takes them.
            raise WeightsError("no weights") from error

    return enter


def weights() -> Door:
    """Base weights, put into a backbone; imports TensorFlow."""
    from graftline.network.cutting import build_base
    from graftline.network.pretrained import BaseWeights, load_into

    backbone = build_base(32, 0.35, 0)
    blank = [0 * values for values in backbone.get_weights()]

    def enter(folder: Path, words: Sequence[str]) -> None:
        # A layer whose weights are as before counts as one that the file says nothing of.
        backbone.set_weights(blank)
        load_into(backbone, BaseWeights("file", folder / words[0], None))

    return enter


DOORS: Mapping[str, Callable[[], Door]] = {
    "image": image,
    "folder": loading("folder"),
    "idx": loading("idx"),
    "npz": loading("npz", "source/set.npz"),
    "manifest": loading("manifest"),
    "params": params,
    "command": command,
    "hdf5": hdf5,
    "weights": weights,
}
