"""Which model is served, and how another one takes its place."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from graftline.core.errors import GraftlineError, MissingOutputError, TrackingError
from graftline.core.workspace import Workspace
from graftline.inference.serving.champion_watcher import Watcher
from graftline.inference.serving.metrics import Counters
from graftline.inference.serving.models import ModelSlot, ModelVersion, NamedSource, ServedModel
from graftline.registry import tracking
from graftline.steps.register import register
from tests import finished, histories
from tests.unit.inference.serving.service import asked, form
from tests.unit.inference.serving.test_app import NOON

PARAMS = finished.some_params()


class Changing:
    """A source whose model a test changes."""

    may_change = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, "1"
        self.error: Exception | None = None

    def key(self) -> tuple[str, str]:
        if self.error is not None:
            raise self.error
        return "digits", self.number

    def load(self) -> ServedModel:
        return ServedModel.load(*self.key(), self.folder)


@pytest.fixture
def source(model: Path) -> Changing:
    return Changing(model)


def test_a_new_version_takes_the_place_and_the_old_one_ends_with_its_last_user(
    source: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[ModelVersion] = []
    place, counters = ModelSlot(source.load()), Counters()
    watcher = Watcher(source, place, counters, every_s=60)
    old = place.model
    monkeypatch.setattr(old.predictor, "close", lambda: closed.append(old.version))

    with place.taken() as first:
        assert not watcher.look()
        source.number = "2"
        assert watcher.look()
        with place.taken() as second:
            assert (first.version.version, second.version.version) == ("1", "2")
        assert closed == []
    assert closed == [old.version]
    assert place.model.version == ModelVersion("digits", "2", finished.digest_of("first"))
    assert counters.count("graftline_model_swaps_total") == 1


@pytest.mark.parametrize(
    "error", [TrackingError("the store is away"), MissingOutputError("lost"), OSError("odd")]
)
def test_whatever_goes_wrong_the_old_model_serves_and_it_is_told_once(
    source: Changing, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    place, counters = ModelSlot(source.load()), Counters()
    watcher = Watcher(source, place, counters, every_s=60)
    source.error = error
    with caplog.at_level(logging.INFO, "graftline.inference.serving"):
        assert not watcher.look()
        assert not watcher.look()
        source.error = None
        assert not watcher.look()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "digits 1 goes on serving" in caplog.text
    assert counters.count("graftline_registry_failures_total") == 2


def test_the_answers_change_with_the_model(source: Changing, model: Path) -> None:
    with asked(model, source=source) as (client, service):

        def version() -> str:
            return str(client.post("/predict", files=form(NOON)).json()["model"]["version"])

        assert version() == "1"
        source.number = "2"
        for _ in range(1000):
            if service.place.model.version.version == "2":
                break
            service.watcher._stopping.wait(0.02)
        assert version() == "2"
        assert 'version="2"' in client.get("/metrics").text
        assert 'version="1"' not in client.get("/metrics").text


def test_a_folder_is_served_as_it_is(model: Path, tmp_path: Path) -> None:
    source = NamedSource(Workspace(tmp_path), str(model))

    assert not source.may_change
    assert source.load().version == ModelVersion(model.name, None, finished.digest_of("first"))


def test_an_absent_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingOutputError, match="there is no model here"):
        NamedSource(Workspace(tmp_path), f"{tmp_path}/absent").load()


def test_the_champion_is_found_followed_and_missed(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = NamedSource(tracked, "champion")
    with pytest.raises(MissingOutputError) as missing:
        source.load()
    assert "no version with the alias champion" in missing.value.what
    assert "--model challenger" in str(missing.value)

    register(tracked, PARAMS, tracking.open_run(tracked, PARAMS))
    client = histories.client_of(tracked)
    client.set_registered_model_alias("graftline", "champion", "1")
    place = ModelSlot(source.load())
    assert place.model.version == ModelVersion("graftline", "1", finished.digest_of("first"))

    finished.train(tracked, "second")
    register(tracked, PARAMS, tracking.open_run(tracked, PARAMS))
    watcher = Watcher(source, place, Counters(), every_s=60)
    assert not watcher.look(), "a challenger is no champion"
    client.set_registered_model_alias("graftline", "champion", "2")
    assert watcher.look()
    assert place.model.version == ModelVersion("graftline", "2", finished.digest_of("second"))

    numbered = NamedSource(tracked, "1")
    assert not numbered.may_change
    assert numbered.load().version.version == "1"
    with pytest.raises(MissingOutputError, match="number 7"):
        NamedSource(tracked, "7").load()

    uri = client.get_model_version_download_uri("graftline", "1")
    shutil.rmtree(uri.removeprefix("file://"))
    shutil.rmtree(tracked.var / "models")
    client.set_registered_model_alias("graftline", "champion", "1")
    assert not watcher.look()
    assert place.model.version.version == "2", "a champion whose files are lost does not serve"
    with pytest.raises(GraftlineError, match="version 1 are not those"):
        source.load()
