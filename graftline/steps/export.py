"""Step ``export``: the trained model in other formats, each held against the original."""

from __future__ import annotations

from graftline.core.files import replacing_directory
from graftline.core.params import Params
from graftline.core.records import Exports
from graftline.core.workspace import Workspace
from graftline.formats.table import markdown

TABLE = "table.md"


def export(workspace: Workspace, params: Params) -> Exports:
    """Exports the trained model and holds each file against the original on all test images.

    Writes ``models/exports/`` (a file or folder per format, ``exports.json``) and
    ``reports/exports/`` (``table.md``, ``differences.csv``). Both are replaced when every format
    has been written, run and found near enough to the original; until then the earlier ones stay.
    Speeds go to ``var/timings/exports.json``. Without a format nothing is imported or measured.

    Args:
        workspace: Where ``preprocess`` and ``train`` have written their outputs.
        params: Of which ``export`` and ``compute.device`` are read.

    Raises:
        ExportError: If a converter cannot take the network, or if an exported model differs from
            the original by more than ``export.min_agreement`` and ``export.max_class_drop`` allow;
            it names the classes.
        MissingOutputError: If an output of an earlier step is absent.
        DataError: If there is no test image, or none to calibrate by.
    """
    section = params.export
    with (
        replacing_directory(workspace.exports, sealed=True) as folder,
        replacing_directory(workspace.exports_report, sealed=True) as report,
    ):
        if section.formats:
            from graftline.compute.devices import settled_device
            from graftline.formats.exporter import export_all

            settled_device(params.compute.device)
            exports = export_all(workspace, section, params.compute.device, folder, report)
        else:
            exports = Exports(original=None, exported=())
        exports.write(folder / exports.file_name())
        (report / TABLE).write_text(markdown(exports), encoding="utf-8")
    return exports
