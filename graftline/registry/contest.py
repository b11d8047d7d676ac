"""Decides whether a model becomes the champion: it is held against the champion and the best."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import MissingOutputError
from graftline.core.params import Params
from graftline.core.processes import own_command
from graftline.core.records import Dataset, Trained
from graftline.core.workspace import Workspace
from graftline.evaluation import answers
from graftline.evaluation.answers import Answers, TestSplit
from graftline.evaluation.comparison import Comparison, compare, pair
from graftline.registry import tracking, trained_on
from graftline.registry.class_sets import begin_anew, only_in_each
from graftline.registry.gate import BASELINE, Check, against, checks, too_few
from graftline.registry.promotions import (
    LEFT_TAG,
    BestChampion,
    Promotion,
    Rule,
    now,
    receipt_of,
    who,
)
from graftline.registry.rivals import Rival, find_rival
from graftline.registry.tracking import Version
from graftline.registry.tracking.versions import DATASET_TAG

ROLLED_BACK = "was rolled back"
RULES = 2
"""Raised when the gate decides by other rules, so that an earlier verdict is not taken for one."""


@dataclass(frozen=True)
class Contest:
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
        """Whether the challenger is the champion once more."""
        return (
            self.champion is not None
            and self.champion.weight_digest == self.challenger.weight_digest
        )


def decided(contest: Contest) -> Promotion:
    """The verdict on the challenger, with every number of it; nothing is changed by it.

    Raises:
        MissingOutputError: If the evaluation lying here is not the challenger's, or the champion's
            files are lost.
    """
    if when := contest.challenger.tags.get(LEFT_TAG):
        version = contest.challenger.version
        return _receipt(
            contest,
            f"version {version} {ROLLED_BACK} at {when}, and does not come back by itself",
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
    own = Trained.read_in(contest.workspace).classes
    # First: the same weights with other names for the classes are another model.
    if different := _other_classes(own, folder, "champion"):
        anew = begin_anew(contest.challenger.name)
        return _receipt(contest, f"{different}; {anew}", promoted=False)
    if contest.same_weights:
        return _receipt(
            contest,
            f"it has the weights of the champion, version {contest.champion.version}",
            promoted=False,
        )
    return _contested(contest, mine, contest.rival(contest.champion, folder))


def _alone(contest: Contest, mine: Answers) -> Comparison:
    frequent = contest.dataset.most_frequent
    return compare(mine.only(contest.clean), None, None, 0, most_frequent=frequent)


def _contested(contest: Contest, mine: Answers, champion: Rival) -> Promotion:
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
    contest: Contest,
    comparison: Comparison,
    champion: Rival | None = None,
    best: BestChampion | None = None,
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


def _best_from_now_on(contest: Contest, comparison: Comparison, best: BestChampion | None) -> str:
    """The challenger, unless it is behind the best one so far; then that one stays it."""
    number = contest.champion.version if contest.champion else contest.challenger.version
    paired = comparison.paired
    if best is not None and best.paired is not None:
        number, paired = best.version, best.paired
    behind = paired is not None and paired.difference < 0
    return number if behind else contest.challenger.version


def _rule(contest: Contest) -> Rule:
    if contest.champion is None:
        return "first"
    return "same data" if contest.same_data else "new data"


def _best_number(contest: Contest) -> str | None:
    """The best champion so far, if the present one's receipt names another than itself."""
    champion = contest.champion
    receipt = None if champion is None else receipt_of(champion)
    if champion is None or receipt is None or not receipt.promoted:
        return None
    return None if receipt.best_version == champion.version else receipt.best_version


def _best(contest: Contest, mine: Answers, comparison: Comparison) -> BestChampion | None:
    """The challenger against the best champion so far, if that is not the present one."""
    number, asked = _best_number(contest), contest.params.promote
    if number is None or asked.significance is None:
        return None

    def aside(why: str) -> BestChampion:
        return BestChampion(version=number, paired=None, answers=None, left_out=None, set_aside=why)

    name = contest.challenger.name
    version = tracking.find_version(contest.workspace, name, number)
    if version is None:
        return aside("it is not in the registry any more")
    if LEFT_TAG in version.tags:
        return aside(f"it {ROLLED_BACK} at {version.tags[LEFT_TAG]}")
    try:
        folder = tracking.fetch_model(contest.workspace, version)
    except MissingOutputError as error:
        return aside(error.what)
    own = Trained.read_in(contest.workspace).classes
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
    return BestChampion(
        version=number, paired=paired, answers=rival.how, left_out=rival.left_out, set_aside=None
    )


def _receipt(
    contest: Contest,
    reason: str,
    *,
    promoted: bool,
    comparison: Comparison | None = None,
    found: tuple[Check, ...] = (),
    champion: Rival | None = None,
    rule: Rule | None = None,
    best: BestChampion | None = None,
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
        rules=RULES,
        run_id=contest.run_id,
        who=who(),
        command=own_command(),
        when=now(),
    )


def _challenger_answers(contest: Contest) -> Answers:
    workspace = contest.workspace
    path = workspace.evaluation / answers.FILE
    trained = Trained.read_in(workspace)
    if trained.weight_digest != contest.challenger.weight_digest:
        raise MissingOutputError(
            f"the model in {workspace.trained} is not version {contest.challenger.version}",
            where=str(Trained.path_in(workspace)),
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
    classes = Trained.read(folder / Trained.file_name()).classes
    different = only_in_each(own, classes, whose)
    return different and f"the two know other classes, and cannot be compared ({different})"
