"""A version that a challenger is held against: its answers, and the images that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import MissingOutputError
from graftline.core.files import scratch_folder
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.evaluation import answers
from graftline.evaluation.answers import Answers, TestSplit
from graftline.registry import tracking, trained_on
from graftline.registry.tracking import Version
from graftline.registry.tracking.versions import DATASET_TAG
from graftline.registry.trained_on import Numbers

How = Literal["stored", "asked again"]


class LeftOut(Record):
    """Test images that two models are not compared on."""

    images: int
    because: Literal["trained on", "not in its test split", "not known"]
    """``trained on``: the version was. ``not in its test split``: it may have been, since only its
    own test split is known. ``not known``: nothing is, so that no image is left out."""


@dataclass(frozen=True)
class Rival:
    """A version beside the present test split.

    Args:
        answers: Its answers to the whole of it.
        how: Whether they were stored.
        counted: The images that it was not trained on, (n,).
        left_out: How many others there are.
    """

    answers: Answers
    how: How
    counted: NDArray[np.bool_]
    left_out: LeftOut


def find_rival(
    workspace: Workspace,
    version: Version,
    folder: Path,
    split: TestSplit,
    dataset_digest: str,
    present: Numbers,
) -> Rival:
    """A version's answers to the present test split.

    Args:
        workspace: Where the images lie.
        version: Of the registry.
        folder: Its files; see :func:`graftline.registry.tracking.fetch_model`.
        split: The present test split.
        dataset_digest: Of the data that lie here.
        present: The training and validation images that lie here.

    Raises:
        MissingOutputError: If the model or the images are not there.
    """
    stored = _stored(workspace, version)
    same = version.tags.get(DATASET_TAG) == dataset_digest
    images = present if same else trained_on.known(workspace, version)
    counted, because = _counted(split, images, stored)
    left_out = LeftOut(images=int((~counted).sum()), because=because)
    if stored is not None and stored.split.digest == split.digest:
        return Rival(stored, "stored", counted, left_out)
    return Rival(answers.ask(folder, workspace), "asked again", counted, left_out)


def _counted(
    split: TestSplit, images: Numbers | None, stored: Answers | None
) -> tuple[NDArray[np.bool_], Literal["trained on", "not in its test split", "not known"]]:
    if images is not None:
        return ~trained_on.among(images, split.hashes), "trained on"
    if stored is not None:
        own = set(stored.split.hashes.tolist())
        return np.array([one in own for one in split.hashes], bool), "not in its test split"
    return np.ones(len(split.hashes), bool), "not known"


def _stored(workspace: Workspace, version: Version) -> Answers | None:
    """What it answered to its own test split, as ``evaluate`` wrote it; None if that is lost."""
    with scratch_folder() as temporary:
        path = tracking.fetch_from_run(
            workspace,
            version.run_id,
            f"evaluation/{answers.FILE}",
            temporary,
            version.weight_digest,
        )
        try:
            return None if path is None else answers.read_answers(path)
        except MissingOutputError:
            return None
