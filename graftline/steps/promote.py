"""Promote: compares the new model with the champion, and makes it the champion if it may be.

A promotion is written down before it happens: first the receipt, as pending, then the alias, then
that it is done. Whoever comes after a process that was killed in between finishes its work.
"""

from __future__ import annotations

import datetime
import getpass
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from graftline.core.errors import MissingOutputError
from graftline.core.files import scratch_folder, write_text
from graftline.core.params import Params, PromoteParams
from graftline.core.processes import own_command
from graftline.core.records import Dataset, Record, Trained
from graftline.core.workspace import Workspace
from graftline.evaluation import answers
from graftline.evaluation.answers import Answers, TestSplit
from graftline.evaluation.comparison import Comparison, Paired, compare, pair
from graftline.registry import tracking, trained_on
from graftline.registry.gate import BASELINE, Check, against, checks, too_few
from graftline.registry.rivals import How, LeftOut, Rival, find_rival
from graftline.registry.tracking import CHAMPION, Version
from graftline.steps.register import DATASET_TAG, Registered

RECEIPT_TAG = "graftline.promotion"
STATE_TAG = "graftline.promotion_state"
VERDICT_TAG = "graftline.verdict"
WHEN_TAG = "graftline.verdict_at"
LEFT_TAG = "graftline.rolled_back"
_MAX_TAG_CHARACTERS = 90_000
_ROLLED_BACK = "was rolled back"

_RULES = 2
"""Raised when the gate decides by other rules, so that an earlier verdict is not taken for one."""
_CLASSES_TOLD = 20

Decision = Literal["promoted", "kept", "unchanged"]
Rule = Literal["first", "same data", "new data"]


class Best(Record):
    """The best champion so far, where that is another than the present one."""

    version: str
    paired: Paired | None
    """The challenger against it; null if it was set aside."""
    answers: How | None
    left_out: LeftOut | None
    set_aside: str | None
    """Why it was not compared with, in words."""


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
    champion_answers: How | None
    """Whether the champion's stored answers were to these very images."""
    dataset_digest: str | None = None
    """Of the data that lay here, training images and all; null in receipts of before."""
    trained_on: int = 0
    """Test images that the challenger was trained on, which count for nothing."""
    left_out: LeftOut | None = None
    """Those that the champion was trained on, which do not count between the two; null where no
    champion was asked."""
    rule: Rule | None = None
    """Which rule decided; null where there was nothing to compare."""
    best: Best | None = None
    """What the challenger was held against besides the champion; null if that is the best."""
    best_version: str | None = None
    """If promoted: the best champion from now on, against which later challengers are held."""
    rules: int = 1
    """The version of the gate's rules."""
    unseen_by_champion: int | None = Field(default=None, exclude=True)
    """Read from receipts of earlier versions, which left no image out; not written any more."""
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
    dataset: Dataset

    @cached_property
    def trained_on(self) -> trained_on.Numbers:
        """The images that the challenger was trained on."""
        return trained_on.present(self.workspace)

    @cached_property
    def clean(self) -> NDArray[np.bool_]:
        """The test images that it was not trained on, (n,)."""
        return ~trained_on.among(self.trained_on, self.split.hashes)

    @property
    def same_data(self) -> bool:
        """Whether the champion was trained on the same images, with the same labels and splits."""
        return (
            self.champion is not None and self.champion.tags.get(DATASET_TAG) == self.dataset.digest
        )

    def rival(self, version: Version, folder: Path) -> Rival:
        """A version's answers to the test split."""
        return find_rival(
            self.workspace, version, folder, self.split, self.dataset.digest, self.trained_on
        )

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
            workspace,
            params,
            run_id,
            challenger,
            champion,
            answers.present_split(workspace),
            Dataset.read(workspace.loaded / "dataset.json"),
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
        or receipt.rules != _RULES
        or contest.challenger.tags.get(STATE_TAG) != "done"
        or (LEFT_TAG in contest.challenger.tags) != (_ROLLED_BACK in receipt.reason)
        or receipt.champion_version != (champion.version if champion else None)
        or receipt.champion_digest != (champion.weight_digest if champion else None)
        or receipt.test_digest != contest.split.digest
        or receipt.dataset_digest != contest.dataset.digest
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
    if not contest.clean.any():
        return _receipt(
            contest,
            f"each of the {len(contest.clean):,} test images is also among those that it was "
            "trained on",
            promoted=False,
        )
    if contest.champion is None:
        return _judged(contest, _alone(contest, mine))
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
            comparison=_alone(contest, mine),
            best_version=_best_number(contest) or contest.challenger.version,
        )
    if contest.same_weights:
        return _receipt(
            contest,
            f"it has the weights of the champion, version {contest.champion.version}",
            promoted=False,
        )
    own = Trained.read(contest.workspace.trained / "trained.json").classes
    if different := _other_classes(own, folder, "champion"):
        return _receipt(contest, different, promoted=False)
    return _contested(contest, mine, contest.rival(contest.champion, folder))


def _alone(contest: _Contest, mine: Answers) -> Comparison:
    frequent = contest.dataset.most_frequent
    return compare(mine.only(contest.clean), None, None, 0, most_frequent=frequent)


def _contested(contest: _Contest, mine: Answers, champion: Rival) -> Promotion:
    """The challenger against the champion, and against the best one so far."""
    counted = contest.clean & champion.counted
    if not counted.any():
        return _receipt(
            contest,
            f"none of the {len(counted):,} test images is left that neither the challenger nor "
            "the champion was trained on, so the two cannot be compared",
            promoted=False,
            comparison=_alone(contest, mine),
            champion=champion,
        )
    clean, asked = contest.clean, contest.params.promote
    comparison = compare(
        mine.only(clean),
        champion.answers.only(clean),
        asked.significance,
        contest.params.seed,
        counted=counted[clean],
        most_frequent=contest.dataset.most_frequent,
    )
    return _judged(contest, comparison, champion, _best(contest, mine, comparison))


def _judged(
    contest: _Contest,
    comparison: Comparison,
    champion: Rival | None = None,
    best: Best | None = None,
) -> Promotion:
    asked = contest.params.promote
    found = checks(comparison, asked, first=champion is None, same_data=contest.same_data)
    if best is not None and best.paired is not None:
        whom = f"version {best.version}, the best champion so far"
        found += against(best.paired, asked, whom)
    failed = [check for check in found if not check.passed]
    told = failed or [check for check in found if check.name != BASELINE]
    return _receipt(
        contest,
        "; ".join(check.text for check in told),
        promoted=not failed,
        comparison=comparison,
        found=found,
        champion=champion,
        rule=_rule(contest),
        best=best,
        best_version=_best_from_now_on(contest, comparison, best),
    )


def _best_from_now_on(contest: _Contest, comparison: Comparison, best: Best | None) -> str:
    """The challenger, unless it is behind the best one so far; then that one stays it."""
    number = contest.champion.version if contest.champion else contest.challenger.version
    paired = comparison.paired
    if best is not None and best.paired is not None:
        number, paired = best.version, best.paired
    behind = paired is not None and paired.difference < 0
    return number if behind else contest.challenger.version


def _rule(contest: _Contest) -> Rule:
    if contest.champion is None:
        return "first"
    return "same data" if contest.same_data else "new data"


def _best_number(contest: _Contest) -> str | None:
    """The best champion so far, if the present one's receipt names another than itself."""
    champion = contest.champion
    receipt = None if champion is None else receipt_of(champion)
    if champion is None or receipt is None or not receipt.promoted:
        return None
    return None if receipt.best_version == champion.version else receipt.best_version


def _best(contest: _Contest, mine: Answers, comparison: Comparison) -> Best | None:
    """The challenger against the best champion so far, if that is not the present one."""
    number, asked = _best_number(contest), contest.params.promote
    if number is None or asked.significance is None:
        return None

    def aside(why: str) -> Best:
        return Best(version=number, paired=None, answers=None, left_out=None, set_aside=why)

    name = contest.challenger.name
    version = tracking.find_version(contest.workspace, name, number)
    if version is None:
        return aside("it is not in the registry any more")
    if LEFT_TAG in version.tags:
        return aside(f"it {_ROLLED_BACK} at {version.tags[LEFT_TAG]}")
    try:
        folder = tracking.fetch_model(contest.workspace, version)
    except MissingOutputError as error:
        return aside(error.what)
    own = Trained.read(contest.workspace.trained / "trained.json").classes
    if different := _other_classes(own, folder, "best champion so far"):
        return aside(different)
    rival = contest.rival(version, folder)
    counted = contest.clean & rival.counted
    if not counted.any():
        return aside("it was trained on each of the test images")
    paired = pair(
        mine.only(counted), rival.answers.only(counted), asked.significance, contest.params.seed
    )
    alone = comparison.model_copy(update={"missing": ()})
    if few := too_few(alone, paired, asked):
        return aside(few)
    return Best(
        version=number, paired=paired, answers=rival.how, left_out=rival.left_out, set_aside=None
    )


def _receipt(
    contest: _Contest,
    reason: str,
    *,
    promoted: bool,
    comparison: Comparison | None = None,
    found: tuple[Check, ...] = (),
    champion: Rival | None = None,
    rule: Rule | None = None,
    best: Best | None = None,
    best_version: str | None = None,
) -> Promotion:
    former = contest.champion
    return Promotion(
        promoted=promoted,
        decision="promoted" if promoted else "kept",
        reason=reason,
        model_name=contest.challenger.name,
        challenger_version=contest.challenger.version,
        champion_version=former.version if former else None,
        challenger_digest=contest.challenger.weight_digest,
        champion_digest=former.weight_digest if former else None,
        comparison=comparison,
        checks=found,
        thresholds=contest.params.promote,
        test_digest=contest.split.digest,
        dataset_digest=contest.dataset.digest,
        champion_answers=champion.how if champion else None,
        trained_on=int((~contest.clean).sum()),
        left_out=champion.left_out if champion else None,
        rule=rule,
        best=best,
        best_version=best_version if promoted else None,
        rules=_RULES,
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


def _other_classes(own: tuple[str, ...], folder: Path, whose: str) -> str | None:
    """Why a model cannot be compared with another one that knows other classes."""
    classes = Trained.read(folder / "trained.json").classes
    if set(classes) == set(own):
        return None

    def told(names: set[str]) -> str:
        shown = sorted(names)[:_CLASSES_TOLD]
        more = len(names) - len(shown)
        return (", ".join(shown) or "none") + (f" and {more} more" if more else "")

    return (
        "the two know other classes, and cannot be compared (only the challenger: "
        f"{told(set(own) - set(classes))}; only the {whose}: {told(set(classes) - set(own))})"
    )


def _carry_out(contest: _Contest, promotion: Promotion) -> None:
    """Receipt, alias, done, reports: in this order, each step of which may be the last."""
    from graftline.registry.promotion_report import markdown, metrics

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
    short = promotion.comparison.model_copy(update={"classes": {}, "missing": ()})
    return promotion.model_copy(update={"comparison": short}).model_dump_json()


def _write_report(workspace: Workspace, promotion: Promotion) -> None:
    from graftline.registry.promotion_report import markdown

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
