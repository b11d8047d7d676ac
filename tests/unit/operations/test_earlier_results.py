"""Going back to earlier inputs takes the earlier outputs from DVC's cache, if they are whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from graftline.core.checksums import seal
from graftline.core.code_lock import CODE_LOCK
from graftline.core.files import md5_file, write_text
from graftline.core.params import Params
from graftline.core.records import Trained
from graftline.core.workspace import Workspace
from graftline.operations import dvc_cache
from graftline.operations.earlier_results import EarlierResults
from tests import finished
from tests.unit.core.test_checksums import rot

DVC = """\
stages:
  train:
    cmd: python -m graftline train
    deps: [models/freeze_plan.json]
    params: [train, {graftline.lock: [steps.train]}]
    outs:
      - models/trained: {persist: true}
      - reports/history.csv: {persist: true}
"""


class Checkout:
    """A checkout in which DVC runs the stage ``train``, its cache made by hand."""

    def __init__(self, root: Path) -> None:
        self.workspace, self.root = Workspace(root), root
        finished.finish(self.workspace)
        write_text(root / "dvc.yaml", DVC)
        write_text(root / CODE_LOCK, f"steps:\n  train: {finished.digest_of('code')}\n")

    def stage(self, rate: float = 0.001) -> EarlierResults:
        params: Params = finished.some_params(learning_rate=rate)
        return EarlierResults(self.workspace, "train", params)

    def work(self, rate: float, weights: str) -> None:
        """Has the stage run, and DVC write it down."""
        earlier = self.stage(rate)
        assert earlier.take() is None
        finished.train(self.workspace, weights)
        seal(self.workspace.trained)
        earlier.note()
        listed = [
            {"md5": self.kept(path), "relpath": path.name}
            for path in sorted(self.workspace.trained.iterdir())
        ]
        folder = self.root / "folder.json"
        folder.write_text(json.dumps(listed))
        names = {
            "models/trained": self.kept(folder, ".dir"),
            "reports/history.csv": self.kept(self.workspace.history),
        }
        lines = "".join(f"    - path: {path}\n      md5: {md5}\n" for path, md5 in names.items())
        write_text(self.root / "dvc.lock", f"stages:\n  train:\n    cmd: x\n    outs:\n{lines}")

    def kept(self, path: Path, ending: str = "") -> str:
        name = md5_file(path) + ending
        place = self.object(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        return name

    def object(self, name: str) -> Path:
        return self.root / "cache" / "files" / "md5" / name[:2] / name[2:]

    @property
    def weights(self) -> str:
        return Trained.read_in(self.workspace).weight_digest


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setenv("DVC_STAGE", "train")
    said = SimpleNamespace(returncode=0, stdout=f"{tmp_path / 'cache'}\n")
    monkeypatch.setattr(dvc_cache, "dvc_ended", lambda *_, **__: said)
    made = Checkout(tmp_path)
    made.work(0.001, "first")
    made.work(0.002, "second")
    return made


def test_the_earlier_outputs_come_back(checkout: Checkout) -> None:
    record = checkout.stage(0.001).take()
    assert isinstance(record, Trained)
    assert record.weight_digest == checkout.weights == finished.digest_of("first")
    # And from there back again.
    assert checkout.stage(0.002).take() is not None
    assert checkout.weights == finished.digest_of("second")


def test_who_runs_the_last_one_again_wants_it_to_run(checkout: Checkout) -> None:
    assert checkout.stage(0.002).take() is None
    shutil.rmtree(checkout.workspace.trained)
    assert checkout.stage(0.002).take() is not None, "unless it is gone"


def test_by_hand_it_runs(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE")
    assert checkout.stage(0.001).take() is None


@pytest.mark.parametrize("what", ["parameters", "code", "input"])
def test_other_inputs_are_no_earlier_ones(checkout: Checkout, what: str) -> None:
    if what == "code":
        write_text(checkout.root / CODE_LOCK, f"steps:\n  train: {finished.digest_of('new')}\n")
    elif what == "input":
        write_text(checkout.workspace.freeze_plan, "{}")
    assert checkout.stage(0.003 if what == "parameters" else 0.001).take() is None
    assert checkout.weights == finished.digest_of("second")


@pytest.mark.parametrize("harm", ["gone", "a bit"])
@pytest.mark.parametrize("which", ["model.tflite", "trained.json", "history.csv"])
def test_what_the_cache_has_lost_is_made_anew(checkout: Checkout, which: str, harm: str) -> None:
    later = checkout.stage(0.002)
    assert checkout.stage(0.001).take() is not None
    history, trained = checkout.workspace.history, checkout.workspace.trained
    path = checkout.object(md5_file(history if which == history.name else trained / which))
    assert later.take() is not None
    path.unlink() if harm == "gone" else rot(path, 3)
    before = checkout.weights
    assert checkout.stage(0.001).take() is None
    assert checkout.weights == before
