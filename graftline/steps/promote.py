"""Promote: compares the new model with the champion, and makes it the champion if it may be.

A promotion is written down before it happens: first the receipt, as pending, then the alias, then
that it is done. The next process after one that was killed in between finishes its work.
"""

from __future__ import annotations

from graftline.core.errors import MissingOutputError
from graftline.core.files import scratch_folder, write_text
from graftline.core.params import Params
from graftline.core.processes import own_command
from graftline.core.records import Dataset
from graftline.core.records.register import Registered
from graftline.core.workspace import Workspace
from graftline.evaluation import answers
from graftline.registry import tracking
from graftline.registry.contest import ROLLED_BACK, RULES, Contest, decided
from graftline.registry.promotions import (
    LEFT_TAG,
    RECEIPT_TAG,
    STATE_TAG,
    VERDICT_TAG,
    WHEN_TAG,
    Promotion,
    finish_pending,
    now,
    receipt_of,
    who,
)
from graftline.registry.tracking import CHAMPION, Version

_MAX_TAG_CHARACTERS = 90_000


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
        contest = Contest(
            workspace,
            params,
            run_id,
            challenger,
            champion,
            answers.present_split(workspace),
            Dataset.read_in(workspace),
        )
        if earlier := _earlier(contest):
            return earlier
        promotion = decided(contest)
        _carry_out(contest, promotion)
        return promotion


def _settled(workspace: Workspace, params: Params, champion: Version, run_id: str) -> Promotion:
    """The challenger is the champion: finishes the promotion that made it so, if need be."""
    was_pending = champion.tags.get(STATE_TAG) == "pending"
    receipt = finish_pending(workspace, champion)
    if receipt is not None and receipt.promoted:
        if Promotion.find_in(workspace) != receipt:
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


def _earlier(contest: Contest) -> Promotion | None:
    """The verdict that the challenger carries, if the same would be decided again."""
    receipt = receipt_of(contest.challenger)
    champion = contest.champion
    if (
        receipt is None
        or receipt.decision != "kept"
        or receipt.rules != RULES
        or contest.challenger.tags.get(STATE_TAG) != "done"
        or (LEFT_TAG in contest.challenger.tags) != (ROLLED_BACK in receipt.reason)
        or receipt.champion_version != (champion.version if champion else None)
        or receipt.champion_digest != (champion.weight_digest if champion else None)
        or receipt.test_digest != contest.split.digest
        or receipt.dataset_digest != contest.dataset.digest
        or receipt.thresholds != contest.params.promote
    ):
        return None
    if Promotion.find_in(contest.workspace) != receipt:
        _write_report(contest.workspace, receipt)
    return receipt.model_copy(update={"repeated": True})


def _carry_out(contest: Contest, promotion: Promotion) -> None:
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


def _registered(workspace: Workspace, name: str, number: str) -> Version:
    version = tracking.find_version(workspace, name, number)
    if version is None:
        raise MissingOutputError(
            f"{name} version {number} is not in the registry any more",
            where=tracking.configure(workspace).shown,
            fix="run python -m flows.train, which registers the model that lies here",
        )
    return version
