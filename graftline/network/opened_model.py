"""The trained network's files, opened by whatever runs them here."""

from __future__ import annotations

from pathlib import Path

from graftline.core.files import scratch_folder
from graftline.core.workspace import LITERT_FILE
from graftline.network.runners.choosing import Computing
from graftline.network.runners.runner import Runner


def open_model(folder: Path, computing: Computing, size_px: int) -> Runner:
    """Opens a trained network, for images no larger than its input size.

    Its outputs are the three of the LiteRT file, whatever runs it.

    Args:
        folder: Where :func:`graftline.network.model_files.export_model` has written it.
        computing: What is to run it.
        size_px: The network's input size.

    Raises:
        DamagedFileError: If the folder lists another checksum for a file.
        MissingOutputError: If the file that is needed is absent or no such model.
    """
    if computing.takes_litert:
        return computing.open(folder / LITERT_FILE)
    # What only answers, with LiteRT, is not to import these.
    from graftline.network.classifier import BACKBONE
    from graftline.network.keras_io import load_model
    from graftline.network.model_files import KERAS_FILE, make_answering

    classifier = load_model(folder / KERAS_FILE)
    with scratch_folder() as scratch:
        path = scratch / "model.pb"
        answering = make_answering(classifier, size_px)
        computing.convert(answering, classifier.get_layer(BACKBONE), path)
        return computing.open(path)
