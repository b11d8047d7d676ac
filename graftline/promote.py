"""Promote: compares the new model with the champion, and makes it the champion if it may be.

A promotion is written down before it happens: first the receipt, as pending, then the alias, then
that it is done. Whoever comes after a process that was killed in between finishes its work.
"""

from __future__ import annotations

import datetime
import getpass
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from graftline import answers, tracking
from graftline.answers import Answers, TestSplit
from graftline.artifacts import Record, Trained
from graftline.comparison import Comparison, compare
from graftline.errors import MissingOutputError
from graftline.gate import Check, checks
from graftline.params import Params, PromoteParams
from graftline.processes import own_command
from graftline.register import Registered
from graftline.storage import scratch_folder, write_text
from graftline.tracking import CHAMPION, Version
from graftline.workspace import Workspace

RECEIPT_TAG = "graftline.promotion"
STATE_TAG = "graftline.promotion_state"
VERDICT_TAG = "graftline.verdict"
WHEN_TAG = "graftline.verdict_at"
LEFT_TAG = "graftline.rolled_back"
_MAX_TAG_CHARACTERS = 90_000
_ROLLED_BACK = "was rolled back"

Decision = Literal["promoted", "kept", "unchanged"]


class Promotion(Record):
    """``reports/promotion.json``: the receipt of a decision, with every number of it."""

    promoted: bool
    """Whether the challenger has become the champion."""
    decision: Decision
    """``kept``: the champion stays. ``unchanged``: the challenger is the champion already."""
    reason: str
    """In words."""
    model_name: str
    challenger_version: str
    champion_version: str | None
    """The champion that the challenger was measured against; null if there was none."""
    challenger_digest: str | None
    """Of its weights."""
    champion_digest: str | None
    comparison: Comparison | None
    """Null where there was nothing to compare."""
    checks: tuple[Check, ...]
    thresholds: PromoteParams
    test_digest: str
    """Of the images and labels that both were measured on."""
    champion_answers: Literal["stored", "asked again"] | None
    """Whether the champion's stored answers were to these very images."""
    unseen_by_champion: int | None
    """Test images that were not in the champion's own test split, and so may be among what it was
    trained on; null where that is not known."""
    run_id: str
    """The run that decided."""
    who: str
    command: str
    when: str
    """Local time, to the second, with its offset."""
    repeated: bool = False
    """Whether this had been decided before; never so in a written receipt."""

    @property
    def champion_now(self) -> str | None:
        """The champion's version after this decision."""
        unmoved = self.champion_version
        return self.challenger_version if self.decision != "kept" else unmoved


@dataclass(frozen=True)
class _Contest:
    """What a decision is made of."""

    workspace: Workspace
    params: Params
    run_id: str
    challenger: Version
    champion: Version | None
    split: TestSplit

    @property
    def same_weights(self) -> bool:
        return (
            self.champion is not None
            and self.champion.weight_digest == self.challenger.weight_digest
        )


def promote(workspace: Workspace, params: Params, registered: Registered, run_id: str) -> Promotion:
    """Decides whether a registered model becomes the champion, and makes it that.

    Both models are measured on the test split that lies in ``data/loaded``. Calling it again
    changes nothing, unless the thresholds, the champion or the test split have changed.

    Args:
        workspace: Where the evaluated model lies.
        params: Of which ``promote`` and ``seed`` are read.
        registered: What ``register`` returned.
        run_id: The run that gets the receipt.

    Raises:
        MissingOutputError: If the evaluation lying here is not the registered model's, or the
            champion's files are lost.
        PipelineBusyError: If another process has been deciding for a quarter of an hour.
        TrackingError: If the registry cannot be used, or the champion changed meanwhile.
    """
    with tracking.champion_lock(workspace):
        name = registered.model_name
        challenger = _registered(workspace, name, registered.version)
        champion = tracking.find_version(workspace, name, CHAMPION)
        if champion is not None and champion.version == challenger.version:
            return _settled(workspace, params, champion, run_id)
        contest = _Contest(
            workspace, params, run_id, challenger, champion, answers.present_split(workspace)
        )
        if earlier := _earlier(contest):
            return earlier
        promotion = _decided(contest)
        _carry_out(contest, promotion)
        return promotion


def receipt_of(version: Version) -> Promotion | None:
    """The receipt that a version carries; None if it has none, or one of another Graftline."""
    try:
        return Promotion.model_validate_json(version.tags.get(RECEIPT_TAG, ""))
    except ValidationError:
        return None


def who() -> str:
    """The user and the machine, as in ``ann@laptop``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # A container's number without a name.
        user = "unknown"
    return f"{user}@{platform.node()}"


def now() -> str:
    """Local time, to the second, with its offset."""
    return datetime.datetime.now().astimezone().isoformat(" ", "seconds")


def finish_pending(workspace: Workspace, champion: Version) -> Promotion | None:
    """Completes what a killed process left of the champion's promotion; call it with the lock.

    Returns:
        The champion's receipt, if it has one.
    """
    receipt = receipt_of(champion)
    if receipt is not None and champion.tags.get(STATE_TAG) == "pending":
        tracking.tag_version(workspace, champion, {STATE_TAG: "done"})
    return receipt


def _settled(workspace: Workspace, params: Params, champion: Version, run_id: str) -> Promotion:
    """The challenger is the champion: finishes the promotion that made it so, if need be."""
    was_pending = champion.tags.get(STATE_TAG) == "pending"
    receipt = finish_pending(workspace, champion)
    if receipt is not None and receipt.promoted:
        if _written(workspace) != receipt:
            _write_report(workspace, receipt)
        if was_pending:
            return receipt
    return Promotion(
        promoted=False,
        decision="unchanged",
        reason=f"version {champion.version} is the champion already",
        model_name=champion.name,
        challenger_version=champion.version,
        champion_version=champion.version,
        challenger_digest=champion.weight_digest,
        champion_digest=champion.weight_digest,
        comparison=None if receipt is None else receipt.comparison,
        checks=(),
        thresholds=params.promote,
        test_digest="" if receipt is None else receipt.test_digest,
        champion_answers=None,
        unseen_by_champion=None,
        run_id=run_id,
        who=who(),
        command=own_command(),
        when=now(),
        repeated=True,
    )


def _earlier(contest: _Contest) -> Promotion | None:
    """The verdict that the challenger carries, if the same would be decided again."""
    receipt = receipt_of(contest.challenger)
    champion = contest.champion
    if (
        receipt is None
        or receipt.decision != "kept"
        or contest.challenger.tags.get(STATE_TAG) != "done"
        or (LEFT_TAG in contest.challenger.tags) != (_ROLLED_BACK in receipt.reason)
        or receipt.champion_version != (champion.version if champion else None)
        or receipt.champion_digest != (champion.weight_digest if champion else None)
        or receipt.test_digest != contest.split.digest
        or receipt.thresholds != contest.params.promote
    ):
        return None
    if _written(contest.workspace) != receipt:
        _write_report(contest.workspace, receipt)
    return receipt.model_copy(update={"repeated": True})


def _decided(contest: _Contest) -> Promotion:
    if when := contest.challenger.tags.get(LEFT_TAG):
        version = contest.challenger.version
        return _receipt(
            contest,
            f"version {version} {_ROLLED_BACK} at {when}, and does not come back by itself",
            promoted=False,
        )
    mine = _challenger_answers(contest)
    if contest.champion is None:
        return _judged(contest, compare(mine, None, None, 0), first=True)
    try:
        folder = tracking.fetch_model(contest.workspace, contest.champion)
    except MissingOutputError:
        if not contest.same_weights:
            raise
        return _receipt(
            contest,
            f"it has the weights of the champion, version {contest.champion.version}, whose files "
            "are lost",
            promoted=True,
            comparison=compare(mine, None, None, 0),
        )
    if contest.same_weights:
        return _receipt(
            contest,
            f"it has the weights of the champion, version {contest.champion.version}",
            promoted=False,
        )
    classes = Trained.read(folder / "trained.json").classes
    own = Trained.read(contest.workspace.trained / "trained.json").classes
    if set(classes) != set(own):
        return _receipt(contest, _other_classes(own, classes), promoted=False)
    theirs, how, unseen = _champion_answers(contest, contest.champion, folder)
    asked = contest.params.promote
    comparison = compare(mine, theirs, asked.significance, contest.params.seed)
    return _judged(contest, comparison, first=False, how=how, unseen=unseen)


def _judged(
    contest: _Contest,
    comparison: Comparison,
    *,
    first: bool,
    how: Literal["stored", "asked again"] | None = None,
    unseen: int | None = None,
) -> Promotion:
    found = checks(comparison, contest.params.promote, first=first)
    failed = [check for check in found if not check.passed]
    return _receipt(
        contest,
        "; ".join(check.text for check in failed or found),
        promoted=not failed,
        comparison=comparison,
        found=found,
        how=how,
        unseen=unseen,
    )


def _receipt(
    contest: _Contest,
    reason: str,
    *,
    promoted: bool,
    comparison: Comparison | None = None,
    found: tuple[Check, ...] = (),
    how: Literal["stored", "asked again"] | None = None,
    unseen: int | None = None,
) -> Promotion:
    champion = contest.champion
    return Promotion(
        promoted=promoted,
        decision="promoted" if promoted else "kept",
        reason=reason,
        model_name=contest.challenger.name,
        challenger_version=contest.challenger.version,
        champion_version=champion.version if champion else None,
        challenger_digest=contest.challenger.weight_digest,
        champion_digest=champion.weight_digest if champion else None,
        comparison=comparison,
        checks=found,
        thresholds=contest.params.promote,
        test_digest=contest.split.digest,
        champion_answers=how,
        unseen_by_champion=unseen,
        run_id=contest.run_id,
        who=who(),
        command=own_command(),
        when=now(),
    )


def _challenger_answers(contest: _Contest) -> Answers:
    workspace = contest.workspace
    path = workspace.evaluation / answers.FILE
    trained = Trained.read(workspace.trained / "trained.json")
    if trained.weight_digest != contest.challenger.weight_digest:
        raise MissingOutputError(
            f"the model in {workspace.trained} is not version {contest.challenger.version}",
            where=str(workspace.trained / "trained.json"),
            fix="run python -m flows.train, which registers and compares what lies there",
        )
    found = answers.read_answers(path)
    if found.split.digest != contest.split.digest:
        raise MissingOutputError(
            "the evaluation is one of other images than data/loaded holds",
            where=str(path),
            fix="run dvc repro, which evaluates anew",
        )
    return found


def _champion_answers(
    contest: _Contest, champion: Version, folder: Path
) -> tuple[Answers, Literal["stored", "asked again"], int | None]:
    """The champion's answers to the present test split, and where they come from."""
    unseen = None
    with scratch_folder() as temporary:
        path = tracking.fetch_from_run(
            contest.workspace,
            champion.run_id,
            f"evaluation/{answers.FILE}",
            temporary,
            champion.weight_digest,
        )
        try:
            stored = None if path is None else answers.read_answers(path)
        except MissingOutputError:
            stored = None
        if stored is not None:
            if stored.split.digest == contest.split.digest:
                return stored, "stored", 0
            known = set(stored.split.hashes)
            unseen = sum(one not in known for one in contest.split.hashes)
    return answers.ask(folder, contest.workspace), "asked again", unseen


def _other_classes(own: tuple[str, ...], champions: tuple[str, ...]) -> str:
    def told(names: set[str]) -> str:
        return ", ".join(sorted(names)) or "none"

    return (
        "the two know other classes, and cannot be compared (only the challenger: "
        f"{told(set(own) - set(champions))}; only the champion: {told(set(champions) - set(own))})"
    )


def _carry_out(contest: _Contest, promotion: Promotion) -> None:
    """Receipt, alias, done, reports: in this order, each step of which may be the last."""
    from graftline.promotion_report import markdown, metrics

    workspace = contest.workspace
    with scratch_folder() as folder:
        files = [folder / name for name in ("promotion.json", "promotion.md")]
        promotion.write(files[0])
        write_text(files[1], markdown(promotion))
        tracking.log_receipt(
            workspace,
            promotion.run_id,
            files,
            metrics(promotion),
            {VERDICT_TAG: _verdict(promotion)},
        )
    state = "pending" if promotion.promoted else "done"
    tracking.tag_version(
        workspace,
        contest.challenger,
        {
            STATE_TAG: state,
            RECEIPT_TAG: _as_tag(promotion),
            VERDICT_TAG: _verdict(promotion),
            WHEN_TAG: promotion.when,
        },
    )
    if promotion.promoted:
        tracking.move_champion(
            workspace,
            promotion.model_name,
            expected=promotion.champion_version,
            version=promotion.challenger_version,
        )
        tracking.tag_version(workspace, contest.challenger, {STATE_TAG: "done"})
    _write_report(workspace, promotion)


def _verdict(promotion: Promotion) -> str:
    if not promotion.promoted:
        return "kept out" if promotion.champion_version else "not promoted"
    if promotion.champion_version is None:
        return "promoted as the first"
    return f"promoted over version {promotion.champion_version}"


def _as_tag(promotion: Promotion) -> str:
    text = promotion.model_dump_json()
    if len(text) <= _MAX_TAG_CHARACTERS or promotion.comparison is None:
        return text
    # The classes of many are too much for a tag; the run has the whole receipt.
    short = promotion.comparison.model_copy(update={"classes": {}})
    return promotion.model_copy(update={"comparison": short}).model_dump_json()


def _write_report(workspace: Workspace, promotion: Promotion) -> None:
    from graftline.promotion_report import markdown

    write_text(workspace.promotion.with_suffix(".md"), markdown(promotion))
    promotion.write(workspace.promotion)


def _written(workspace: Workspace) -> Promotion | None:
    try:
        return Promotion.read(workspace.promotion)
    except MissingOutputError:
        return None


def _registered(workspace: Workspace, name: str, number: str) -> Version:
    version = tracking.find_version(workspace, name, number)
    if version is None:
        raise MissingOutputError(
            f"{name} version {number} is not in the registry any more",
            where=tracking.configure(workspace).shown,
            fix="run python -m flows.train, which registers the model that lies here",
        )
    return version
