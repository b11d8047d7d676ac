from __future__ import annotations

import json

import pytest

from graftline.cli.main import main
from graftline.core.errors import MissingOutputError, RollbackError
from graftline.core.workspace import Workspace
from graftline.registry import rollback as rolling
from graftline.registry import tracking
from graftline.registry.listing import models
from graftline.registry.rollback import Rollback, roll_back
from tests import contests, histories
from tests.contests import NAME, champion, run


@pytest.fixture(autouse=True)
def _bare_models(monkeypatch: pytest.MonkeyPatch) -> None:
    contests.save_bare(monkeypatch)


@pytest.fixture
def two(tracked: Workspace) -> Workspace:
    """A workspace whose second version is the champion, after the first."""
    run(tracked, "first", range(30))
    run(tracked, "second", range(10, 32))
    return tracked


def test_the_former_champion_comes_back_with_a_receipt_and_stays(
    two: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "-C", str(two.root), "--reason", "it drifts"]) == 0

    assert champion(two) == "1"
    said = " ".join(capsys.readouterr().out.split())
    assert "graftline version 1 is the champion again" in said
    receipt = Rollback.read(two.rollback)
    assert (receipt.from_version, receipt.to_version, receipt.reason) == ("2", "1", "it drifts")
    client = histories.client_of(two)
    tags = client.get_model_version(NAME, "2").tags
    assert Rollback.model_validate_json(tags["graftline.rollback"]) == receipt
    assert tags["graftline.rollback_state"] == "done"
    left = client.get_run(client.get_model_version(NAME, "2").run_id)
    assert left.data.tags["graftline.verdict"] == "rolled back"
    # Trained again, it is the same version, and does not come back by itself.
    again = run(two, "second", range(10, 32))
    assert not again.promoted
    assert f"version 2 was rolled back at {receipt.when}" in again.reason
    assert run(two, "second", range(10, 32)).repeated
    assert champion(two) == "1"
    # The first one has none before it.
    with pytest.raises(RollbackError, match="version 1 was the first champion"):
        roll_back(two)
    assert champion(two) == "1"
    # Once its mark is taken away, it is compared again.
    client.delete_model_version_tag(NAME, "2", "graftline.rolled_back")
    assert run(two, "second", range(10, 32)).promoted
    assert champion(two) == "2"


def test_after_a_rollback_the_best_one_is_that_of_the_champion_that_came_back(
    tracked: Workspace,
) -> None:
    run(tracked, "first", range(30))
    contests.load(tracked, "more")
    assert run(tracked, "second", range(20)).best_version == "2"
    roll_back(tracked)
    contests.load(tracked, "still more")
    promotion = run(tracked, "third", range(31))

    # Version 2 was better, and is no measure any more.
    assert (promotion.promoted, promotion.champion_version, promotion.best) == (True, "1", None)
    assert promotion.best_version == "1"
    contests.load(tracked, "yet more")
    promotion = run(tracked, "fourth", range(29))
    assert promotion.best is not None and promotion.best.version == "1"
    assert promotion.best_version == "4"


def test_without_a_champion_there_is_nothing_to_roll_back(
    tracked: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "-C", str(tracked.root)]) == 2
    assert "graftline has no champion" in capsys.readouterr().err


def test_a_champion_without_a_receipt_has_no_known_former_one(tracked: Workspace) -> None:
    run(tracked, "first", range(200))
    histories.client_of(tracked).set_registered_model_alias(NAME, "champion", "1")
    with pytest.raises(RollbackError, match="without a receipt"):
        roll_back(tracked)


def test_a_former_champion_that_is_gone_or_not_whole_does_not_come_back(two: Workspace) -> None:
    client = histories.client_of(two)
    path = two.var / "models" / NAME / "1" / "model.tflite"
    uri = client.get_model_version_download_uri(NAME, "1").removeprefix("file://")
    [stored] = [one for one in two.root.rglob("model.tflite") if str(one).startswith(uri)]
    stored.write_bytes(b"short")
    path.unlink()
    with pytest.raises(MissingOutputError, match="version 1 are not those"):
        roll_back(two)
    client.delete_model_version(NAME, "1")
    with pytest.raises(RollbackError, match="version 1, is not in the registry any more"):
        roll_back(two)
    assert champion(two) == "2"


@pytest.mark.parametrize(
    "at", ["move_champion", pytest.param("tag_version", marks=pytest.mark.slow)]
)
def test_one_that_was_interrupted_is_finished_and_goes_no_further_back(
    two: Workspace, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    run(two, "third", range(12, 30))
    assert champion(two) == "3"
    real, calls = getattr(tracking, at), 0

    def dying(*arguments: object, **options: object) -> None:
        nonlocal calls
        calls += 1
        if at == "move_champion" or calls == 2:
            raise KeyboardInterrupt
        real(*arguments, **options)

    monkeypatch.setattr(tracking, at, dying)
    with pytest.raises(KeyboardInterrupt):
        roll_back(two)
    monkeypatch.setattr(tracking, at, real)
    if at == "move_champion":
        assert models(two)[0].verdict == "rollback unfinished"

    rollback, finished = roll_back(two)
    assert finished
    assert (rollback.from_version, rollback.to_version) == ("3", "2")
    assert champion(two) == "2"
    version = tracking.find_version(two, NAME, "3")
    assert version is not None and version.tags[rolling.STATE_TAG] == "done"
    # The next one is a new one.
    assert roll_back(two)[0].to_version == "1"


def test_models_tells_what_became_of_each(
    two: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    run(two, "third", range(80))
    roll_back(two)
    assert main(["models", "-C", str(two.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert [one["version"] for one in found] == ["3", "2", "1"]
    assert [one["verdict"] for one in found] == ["kept out", "rolled back", "promoted as the first"]
    assert [one["aliases"] for one in found] == [["challenger"], [], ["champion"]]
    assert found[0]["test_accuracy"] == pytest.approx(0.92)
    assert "significantly worse" in found[0]["reason"]
    assert main(["models", "-C", str(two.root)]) == 0
    table = capsys.readouterr().out
    assert "champion" in table and "92.00%" in table and "kept out" in table


def test_models_of_an_empty_registry(
    tracked: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "-C", str(tracked.root)]) == 0
    assert "No version is registered yet" in capsys.readouterr().out
