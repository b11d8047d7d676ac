"""A checkout to be tortured: a tiny network in two phases, and checkpoints after every moment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from graftline.core.dvc_lock import read_lock
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from tests.conftest import NOT_OURS
from tests.flows import tiny

MARK = "GRAFTLINE_TORTURE"
"""In the environment of everything that is started here, so that no process gets out of sight."""
_CHECKPOINTS_OFTEN = {
    # A training of seconds would otherwise be over before its first checkpoint.
    "training/checkpoints.py": ("every_s: float = 15.0", "every_s: float = 0.2")
}
_SMALL_CHUNKS = {
    # So few images would otherwise be one chunk, and no worker could be lost among others.
    "data/sources/catalog.py": ("_BATCH_FILES = 64", "_BATCH_FILES = 4"),
    "steps/preprocess.py": ("_BATCH_BYTES = 8 << 20", "_BATCH_BYTES = 1600"),
    "network/runners/runner.py": ("np.clip(fitting // 8 * 8, 8, self.most_images)", "4"),
    "evaluation/predictor.py": ("_CHUNK_IMAGES = 256", "_CHUNK_IMAGES = 1"),
    "inference/batch/writer.py": ("PART_ROWS = 2048", "PART_ROWS = 6"),
}
_PARAMS = {
    "freeze": {"strategy": {"last_blocks": 2}},
    "train": {"epochs": 4, "learning_rate": 0.01},
    "tune": {"epochs": 4},
    "export": {"formats": ["litert_float16"]},
    "register": {"model_name": "tortured"},
}
_IMAGES, _SIZE_PX, _CLASSES = 240, 20, 3


@dataclass(frozen=True)
class Place:
    """Where the torture takes place.

    Args:
        folder: Holds everything: the checkout, its images, temporary files, what the lives said.
        mark: The value of :data:`MARK`, which no other process has.
    """

    folder: Path
    mark: str

    @property
    def workspace(self) -> Workspace:
        """The checkout."""
        return Workspace(self.root)

    @property
    def root(self) -> Path:
        """The checkout's root."""
        return self.folder / "checkout"

    @property
    def temporary(self) -> Path:
        """What the lives have for TMPDIR."""
        return self.folder / "tmp"

    @property
    def said(self) -> Path:
        """What the lives printed, a file for each."""
        return self.folder / "said"

    @property
    def images(self) -> Path:
        """The images as files, a folder for each class; of a place with many chunks."""
        return self.folder / "images"

    def started(self, command: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
        """A process in the checkout that leads a session of its own, and what it prints."""
        with output.open("wb") as said:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """For a life: nothing of the user's servers, and everything that it writes in here."""
        kept = {name: text for name, text in os.environ.items() if name not in NOT_OURS}
        binaries = str(Path(sys.executable).parent)
        return {
            **{name: text for name, text in kept.items() if not name.startswith("PREFECT_")},
            "PATH": os.pathsep.join((binaries, os.environ["PATH"])),
            "PYTHONPATH": "",
            "TMPDIR": str(self.temporary),
            "DVC_SITE_CACHE_DIR": str(self.folder / "dvc-site"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder / "dvc-global"),
            "DVC_SYSTEM_CONFIG_DIR": str(self.folder / "dvc-system"),
            "GIT_CONFIG_GLOBAL": str(self.folder / "gitconfig"),
            "DVC_NO_ANALYTICS": "true",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            MARK: self.mark,
            **(more or {}),
        }

    def done(self) -> list[str]:
        """The stages whose results DVC has written down."""
        locked = read_lock(self.root)
        return [stage for stage in STAGES if stage in locked]

    def forget_lock(self) -> None:
        """Takes away what DVC knows of the results."""
        (self.root / "dvc.lock").unlink(missing_ok=True)
        # An experiment has git know of it.
        tiny.sh(self.root, "git", "rm", "-q", "--cached", "--ignore-unmatch", "dvc.lock")

    def make_stale(self, *, wipe: bool) -> None:
        """Has every stage run again, by taking away what DVC knows of it.

        Args:
            wipe: Whether the outputs, the cache and all state go too, as in a fresh clone.
        """
        self.forget_lock()
        shutil.rmtree(self.root / ".dvc" / "cache" / "runs", ignore_errors=True)
        if not wipe:
            return
        shutil.rmtree(self.root / ".dvc" / "cache", ignore_errors=True)
        shutil.rmtree(self.root / "var", ignore_errors=True)
        tiny.sh(self.root, "git", "clean", "-qfdx", "data", "models", "reports")


def make(folder: Path, *, generated: bool = False, chunked: bool = False) -> Place:
    """A fresh place in an empty folder.

    Args:
        folder: Empty.
        generated: Whether it is a project that ``graftline init`` makes, under the library that is
            installed for this interpreter, and no copy of this checkout.
        chunked: Whether the images are files, and every step has many chunks of few images.
    """
    place = Place(folder, f"{os.getpid()}-{folder.name}")
    for made in (place.temporary, place.said):
        made.mkdir(parents=True)
    (folder / "gitconfig").write_text("[user]\n\tname = Torture\n\temail = torture@localhost\n")
    library = _installed(folder) if generated else place.root
    if generated:
        tiny.sh(folder, sys.executable, "-m", "graftline", "init", str(place.root))
        workspace = place.workspace
        tiny.make_small(workspace, folder / "images.npz")
    else:
        workspace = tiny.make(folder)
    _write_images(folder / "images.npz")
    changes = {**_CHECKPOINTS_OFTEN, **(_SMALL_CHUNKS if chunked else {})}
    for name, (before, after) in changes.items():
        _change(library / "graftline" / name, before, after)
    tiny.sh(workspace.root, "python", "-m", "graftline", "lock")
    tiny.sh(workspace.root, "git", "add", "-A")
    tiny.sh(workspace.root, *tiny.COMMIT, "torture")
    # Not committed, as after python -m flows.train --set: DVC sets it aside for experiments.
    params = {**json.loads(workspace.params_file.read_text()), **_PARAMS}
    if chunked:
        _write_files(folder / "images.npz", place.images)
        params["data"] = {"source": "folder", "path": str(place.images)}
    workspace.params_file.write_text(json.dumps(params, indent=2))
    return place


def _installed(folder: Path) -> Path:
    """Where the library lies that a project's processes import."""
    code = "import graftline; print(graftline.__file__)"
    library = Path(tiny.sh(folder, sys.executable, "-c", code).strip()).parents[1]
    if (library / "tests").is_dir():
        raise RuntimeError(f"{library} is a checkout: this needs an environment with the wheel")
    return library


def _write_images(path: Path) -> None:
    """Classes that differ by where the light is, in so much noise that some are mistaken."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 200, (_IMAGES, _SIZE_PX, _SIZE_PX)).astype(np.int64)
    labels = np.arange(_IMAGES) % _CLASSES
    for image, label in zip(images, labels, strict=True):
        image[:, label * 7 : label * 7 + 6] += rng.integers(0, 60)
    np.savez(path, images=np.clip(images, 0, 255).astype(np.uint8), labels=labels)


def _write_files(packed: Path, folder: Path) -> None:
    with np.load(packed) as images:
        for number, (image, label) in enumerate(
            zip(images["images"], images["labels"], strict=True)
        ):
            path = folder / f"class{label}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def _change(module: Path, before: str, after: str) -> None:
    text = module.read_text(encoding="utf-8")
    if before not in text and after in text:
        return
    if text.count(before) != 1:
        raise RuntimeError(f"{module} does not say {before!r} any more; mend {__file__}")
    module.write_text(text.replace(before, after), encoding="utf-8")
