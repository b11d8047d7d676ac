"""The receipt of a decision on a model: what it holds, and the tags that carry it."""

from __future__ import annotations

import datetime
import getpass
import platform
from typing import ClassVar, Literal

from pydantic import Field, ValidationError

from graftline.core.params import PromoteParams
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.evaluation.comparison import Comparison, Paired
from graftline.registry import tracking
from graftline.registry.gate import Check
from graftline.registry.rivals import How, LeftOut
from graftline.registry.tracking import Version

RECEIPT_TAG = "graftline.promotion"
STATE_TAG = "graftline.promotion_state"
VERDICT_TAG = "graftline.verdict"
WHEN_TAG = "graftline.verdict_at"
LEFT_TAG = "graftline.rolled_back"
Decision = Literal["promoted", "kept", "unchanged"]
Rule = Literal["first", "same data", "new data"]


class BestChampion(Record):
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

    lies_at: ClassVar[str] = "reports/promotion.json"

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
    best: BestChampion | None = None
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
