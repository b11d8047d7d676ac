from __future__ import annotations

import pytest

from graftline.core.errors import MissingOutputError
from graftline.core.workspace import Workspace
from graftline.evaluation.feature_reference import REFERENCE_FILE
from graftline.inference.model_choice import choose_model
from graftline.registry import tracking
from graftline.steps.register import register
from tests import finished

PARAMS = finished.some_params()


def test_a_version_is_chosen_by_alias_with_its_reference(tracked: Workspace) -> None:
    with pytest.raises(MissingOutputError, match="nothing has been registered yet"):
        choose_model(tracked, "graftline", "champion")
    (tracked.trained / REFERENCE_FILE).write_bytes(b"a reference")
    register(tracked, PARAMS, tracking.open_run(tracked, PARAMS))

    model = choose_model(tracked, "graftline", "challenger")
    assert (model.name, model.version) == ("graftline", "1")
    assert str(model) == "graftline version 1"
    assert model == choose_model(tracked, "graftline", "1")
    folder = tracked.var / "models" / "graftline" / "1"
    assert model.folder == str(folder)
    assert (folder / REFERENCE_FILE).read_bytes() == b"a reference"

    with pytest.raises(MissingOutputError) as caught:
        choose_model(tracked, "graftline", "champion")
    said = str(caught.value)
    assert "there is no champion of graftline" in said
    assert "--model challenger" in said


def test_a_folder_without_a_model_is_told(tracked: Workspace) -> None:
    with pytest.raises(MissingOutputError, match="no model here"):
        choose_model(tracked, "graftline", str(tracked.loaded))
