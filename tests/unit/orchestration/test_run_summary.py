from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from graftline.core.files import write_text
from graftline.core.params import PromoteParams
from graftline.core.processes import ProcessIdentity
from graftline.core.records import FreezePlan
from graftline.core.workspace import Workspace
from graftline.orchestration.run_summary import show_closing
from graftline.orchestration.screen import Screen, StepEnd
from graftline.registry.promotions import Promotion
from graftline.registry.tracking import LastRun, configure
from graftline.registry.tracking.last_run_file import keep_last_run
from tests import finished

PROMOTED = Promotion(
    promoted=True,
    decision="promoted",
    reason="accuracy 97.50% reaches the floor of 90.00%",
    model_name="digits",
    challenger_version="7",
    champion_version="5",
    challenger_digest="ab",
    champion_digest="cd",
    comparison=None,
    checks=(),
    thresholds=PromoteParams(),
    test_digest="ef",
    champion_answers="stored",
    run_id="abc",
    who="ann@laptop",
    command="python -m flows.train",
    when="2026-01-01 12:00:00+00:00",
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    finished.finish(made)
    return made


def closing(workspace: Workspace, promotion: Promotion = PROMOTED) -> str:
    stream = io.StringIO()
    show_closing(Screen(Console(file=stream, width=80)), workspace, promotion, 12.34)
    return stream.getvalue()


def test_paths_and_commands_are_those_of_where_the_user_stands(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = " ".join(closing(workspace).split())
    assert "files models/trained/, reports/metrics.json" in said
    assert "look graftline ui shows" in said and "use graftline predict IMAGE" in said
    monkeypatch.setenv("GRAFTLINE_CALLED_FROM", str(workspace.root.parent))
    name = workspace.root.name
    said = closing(workspace).replace("\n             ", " ")
    assert f"{name}/models/trained/, {name}/reports/metrics.json" in " ".join(said.split())
    assert f"graftline ui -C {name} shows" in " ".join(said.split())


def test_it_says_how_good_it_is_where_it_lies_and_what_to_do(workspace: Workspace) -> None:
    said = " ".join(closing(workspace).split())
    assert "Done in 12.3 s." in said
    assert "97.50% of 1,000 test images (95 % interval 96.50% to 98.30%)" in said
    # The recall of each of the two classes is 0.8.
    assert "with each class counting the same: 80.00%; always naming the most frequent" in said
    assert "always naming the most frequent class: 50.00%" in said
    assert "1.20%" in said
    assert "version 7 was promoted over version 5: accuracy 97.50% reaches the floor" in said
    assert "digits version 7 (challenger and champion)" in said
    assert "models/trained/" in said
    assert "graftline predict" in said


def test_it_says_who_the_champion_is_when_it_stays(workspace: Workspace) -> None:
    kept = PROMOTED.model_copy(update={"promoted": False, "decision": "kept", "reason": "worse"})
    said = " ".join(closing(workspace, kept).split())
    assert "version 7 was not promoted, version 5 stays the champion: worse" in said
    assert "digits version 7 (challenger); the champion is version 5" in said
    none = kept.model_copy(update={"champion_version": None})
    said = " ".join(closing(workspace, none).split())
    assert "there is no champion yet: worse" in said
    assert "digits version 7 (challenger); there is no champion" in said


def test_a_run_that_cannot_be_reproduced_says_so(workspace: Workspace) -> None:
    assert "repeat" not in closing(workspace)
    store = configure(workspace)
    run = LastRun(
        run_id="abc",
        name="digits",
        door="flow",
        status="FINISHED",
        uri=store.shown,
        experiment=store.experiment,
        process=ProcessIdentity.of(),
        not_reproducible="no commit holds dvc.yaml, clean [x].py as it was",
    )
    keep_last_run(store, run)
    said = " ".join(closing(workspace).split())
    assert "cannot be reproduced: no commit holds dvc.yaml, clean [x].py as it was; commit" in said


def test_it_names_the_exported_files(workspace: Workspace) -> None:
    assert "exports" not in closing(workspace)
    finished.export(workspace)
    said = " ".join(closing(workspace).split())
    assert "model.onnx (3.01 MB, 99.95% the same label) in models/exports/" in said


def test_it_fits_a_terminal_of_80_columns(workspace: Workspace) -> None:
    assert max(len(line) for line in closing(workspace).splitlines()) <= 80


def test_it_names_the_most_confused_pair(workspace: Workspace) -> None:
    rows = ["dark,bright", "dark,dark", "bright,dark", "bright,dark", "bright,bright"]
    text = "\n".join(["actual,predicted", *rows]) + "\n"
    write_text(workspace.evaluation / "confusion.csv", text)
    assert "2 of 3 images of bright are taken for dark" in " ".join(closing(workspace).split())


def test_it_says_what_was_chosen_and_why_only_if_measurement_chose(workspace: Workspace) -> None:
    assert "chosen" not in closing(workspace)
    plan = FreezePlan.read(workspace.freeze_plan)
    measured = plan.model_copy(update={"measured": True, "reason": "It was as good as the best"})
    measured.write(workspace.freeze_plan)
    said = " ".join(closing(workspace).split())
    assert "last_blocks: 2, cut after block_13_expand_relu. It was as good as the best." in said


def test_a_perfect_model_has_no_confused_pair(workspace: Workspace) -> None:
    write_text(workspace.evaluation / "confusion.csv", "actual,predicted\ndark,dark\n")
    assert "taken for" not in closing(workspace)


def test_a_step_is_one_line_without_colours_outside_a_terminal() -> None:
    stream = io.StringIO()
    screen = Screen(Console(file=stream, width=80))
    with screen.step("load") as show:
        show("a line that only a terminal shows")
    screen.end(StepEnd("load", "cached", 1.26, "3 [images]"))
    assert stream.getvalue().rstrip() == "  load       cached     1.3 s 3 [images]"


def test_a_step_that_raises_is_shown_as_failed() -> None:
    stream = io.StringIO()
    screen = Screen(Console(file=stream, width=80))
    with pytest.raises(ValueError, match="no"), screen.step("train"):
        raise ValueError("no")
    assert stream.getvalue().split()[:2] == ["train", "failed"]
