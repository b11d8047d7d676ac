"""The step with nothing to do: no time, no TensorFlow, an empty table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from graftline.core.checksums import CHECKSUMS
from graftline.core.workspace import Workspace
from graftline.steps.export import export
from tests import finished

LOADED = """
import json, sys
from pathlib import Path
from graftline.cli.main import main
code = main(["export", "-C", sys.argv[1]])
print(json.dumps([code, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def test_without_a_format_there_is_an_empty_table(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    exports = export(workspace, finished.some_params())
    assert (exports.original, exports.exported) == (None, ())
    assert {path.name for path in workspace.exports.iterdir()} == {"exports.json", CHECKSUMS}
    assert "Nothing is exported" in (workspace.exports_report / "table.md").read_text()


def test_what_was_exported_before_goes_when_nothing_is_asked_for(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.exports.mkdir(parents=True)
    (workspace.exports / "model.onnx").write_bytes(b"old")
    export(workspace, finished.some_params())
    assert not (workspace.exports / "model.onnx").exists()


def test_without_a_format_nothing_heavy_is_imported(tmp_path: Path) -> None:
    finished.write_params(Workspace(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0
    heavy = {"tensorflow", "keras", "ai_edge_litert", "onnx", "onnxruntime", "tf2onnx", "pyarrow"}
    assert heavy.isdisjoint(modules)
