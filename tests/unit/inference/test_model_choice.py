from __future__ import annotations

from pathlib import Path

import pytest

from graftline.cli.predict import show_predictions
from graftline.core.errors import MissingOutputError
from graftline.core.workspace import Workspace
from graftline.evaluation.feature_reference import REFERENCE_FILE
from graftline.inference.model_choice import choose_model
from graftline.inference.serving.models import ModelVersion, NamedSource, ServedModel
from graftline.registry import tracking
from graftline.steps.register import register
from tests import finished, histories

PARAMS = finished.some_params()


def test_a_version_is_chosen_by_alias_with_its_reference(tracked: Workspace) -> None:
    with pytest.raises(MissingOutputError, match="nothing has been registered yet"):
        choose_model(tracked, "champion")
    (tracked.trained / REFERENCE_FILE).write_bytes(b"a reference")
    register(tracked, PARAMS, tracking.open_run(tracked, PARAMS))

    model = choose_model(tracked, "challenger")
    assert (model.name, model.version) == ("graftline", "1")
    assert str(model) == "graftline version 1"
    assert model == choose_model(tracked, "1")
    folder = tracked.var / "models" / "graftline" / "1"
    assert model.folder == str(folder)
    assert (folder / REFERENCE_FILE).read_bytes() == b"a reference"

    with pytest.raises(MissingOutputError) as caught:
        choose_model(tracked, "champion")
    said = str(caught.value)
    assert "there is no champion of graftline" in said
    assert "--model challenger" in said


def test_a_folder_without_a_model_is_told(tracked: Workspace) -> None:
    with pytest.raises(MissingOutputError, match="no model here"):
        choose_model(tracked, str(tracked.loaded))


def test_every_door_takes_the_champion_and_else_the_last_trained_model(
    tracked: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    image = str(next(Path(__file__).parents[3].glob("docs/images/*.png")))
    source = NamedSource(tracked)
    last = "model: models/trained, the last trained model, as graftline has no champion; weights "
    first, second = finished.digest_of("first"), finished.digest_of("second")

    # What graftline predict prints, what flows.predict takes, and what is served.
    show_predictions(tracked, [image])
    assert capsys.readouterr().out.startswith(last + first[:12])
    assert choose_model(tracked).introduction == last + first[:12]
    slot = source.load()
    assert slot.version == ModelVersion("trained", None, first)
    assert source.key() == slot.version.key

    register(tracked, PARAMS, tracking.open_run(tracked, PARAMS))
    client = histories.client_of(tracked)
    client.set_registered_model_alias("graftline", "champion", "1")
    finished.train(tracked, "second")
    champion = f"model: graftline version 1, the champion; weights {first[:12]}"
    show_predictions(tracked, [image], as_json=True)
    told = capsys.readouterr()
    assert told.err.startswith(champion), "standard output has the objects alone"
    assert told.out.startswith("{")
    assert choose_model(tracked).introduction == champion
    assert source.key() == ("graftline", "1") != slot.version.key
    served: ServedModel = source.load()
    assert served.version == ModelVersion("graftline", "1", first)
    assert served.role == "the champion"

    assert choose_model(tracked, str(tracked.trained)).weight_digest == second
    assert choose_model(tracked, "challenger").weight_digest == first


def test_without_any_model_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingOutputError) as caught:
        choose_model(Workspace(tmp_path))
    said = str(caught.value)
    assert "graftline has no champion, and no model has been trained yet" in said
    assert "graftline run" in said
    assert not (tmp_path / "var").exists(), "asking makes no history"


def test_where_only_a_registry_is_its_versions_are_named(tracked: Workspace) -> None:
    register(tracked, PARAMS, tracking.open_run(tracked, PARAMS))
    (tracked.trained / "trained.json").unlink()
    with pytest.raises(MissingOutputError, match="there is no champion") as caught:
        choose_model(tracked)
    assert "--model challenger" in str(caught.value)
