"""Choosing from beginning to end: profile, candidates, race, verdict."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftline.compute import resources_of
from graftline.core.code_state import code_state
from graftline.core.files import sha256_file, sha256_record
from graftline.core.params import Seconds
from graftline.core.progress import progress
from graftline.core.records import Assembled, FreezePlan, Preprocessed
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages, give_memory_back
from graftline.network.assembled import WHOLE_BACKBONE
from graftline.network.runners.choosing import Computing
from graftline.selection.budget import Schedule, in_multiply_adds, make_schedule
from graftline.selection.candidates import Candidate, make_candidate, make_candidates
from graftline.selection.costs import Costs
from graftline.selection.data_regime import situation_of
from graftline.selection.decision import measured_plan, profile_verdict, race_verdict
from graftline.selection.depths import Depth, choose_depths, last_clean_layer
from graftline.selection.features import images_per_second, pooled_features
from graftline.selection.folds import Fold, dealt_folds, race_folds, training_sample
from graftline.selection.kept import as_kept
from graftline.selection.profile import Profile, make_profile
from graftline.selection.records import Situation, Verdict
from graftline.selection.rule_of_thumb import textbook_candidate
from graftline.selection.settings import Settings
from graftline.selection.speeds import DepthSpeeds
from graftline.selection.successive_halving import Race, run_race
from graftline.selection.throughput import recorded_pace
from graftline.selection.trial import TrialRunner


@dataclass(frozen=True)
class Choice:
    """All that was measured, and what follows from it.

    Args:
        sample: Positions of the profiled images in the preprocessed manifest, (n,).
        folds: Of the profile: the fold of each of them, (n,).
        race: None if the budget paid for none.
        race_positions: Positions of the images that the race held out, in its answers' order.
        head_epochs: Of each head's training, in the race as in ``train``.
        whole_tuning: Images that a tuning to its end would show in a fold.
    """

    sample: NDArray[np.int64]
    folds: NDArray[np.int64]
    profile: Profile
    situation: Situation
    candidates: tuple[Candidate, ...]
    textbook: Candidate
    race: Race | None
    race_positions: NDArray[np.int64]
    head_epochs: int
    whole_tuning: int
    verdict: Verdict
    plan: FreezePlan


def choose(workspace: Workspace, settings: Settings, trainer: TrialRunner) -> Choice:
    """Measures, races and decides; the same inputs give the same choice, bit for bit.

    What is finished is kept under ``var/checkpoints/freeze``, so a killed run goes on.

    Args:
        workspace: Where ``preprocess`` and ``assemble`` left their files.
        settings: What the choice depends on.
        trainer: Does the race's short trainings.

    Raises:
        MissingOutputError: If an earlier step has not run.
    """
    begun_s = time.monotonic()
    assembled = Assembled.read_in(workspace)
    images = PackedImages.open(workspace.preprocessed)
    folder = _checkpoints(workspace, settings)
    depths = choose_depths(assembled)
    sample = training_sample(images, settings.freeze.max_images, settings.seed)
    labels, folds = images.labels[sample], dealt_folds(images.labels[sample])
    features = pooled_features(workspace, assembled, depths, sample, folder, settings.computing)
    kept = folder / "profile.npz"
    profile = make_profile(depths, features, labels, folds, settings.seed, kept)
    _measure_speeds(workspace, assembled, depths, profile, sample, folder, settings.computing)
    training_images = len(images.indices("train"))
    situation = situation_of(profile, labels, training_images, len(assembled.classes))
    rule = textbook_candidate(assembled, profile, situation)
    candidates = tuple(
        as_kept(one, assembled, images, settings)
        for one in make_candidates(assembled, profile.cuts, settings.freeze.batch_norm, also=rule)
    )
    # The rule's plan may stand among the candidates under another name already.
    rule = next(one for one in candidates if one.identity == rule.identity)
    held = race_folds(images, settings.seed)
    # The trainer reads them for itself; what is known of a million images takes 150 MB.
    del images
    give_memory_back()
    schedule, budget = _schedule(folder, settings, trainer, assembled, candidates, held, begun_s)
    if schedule is None:
        head_only = candidates[0]
        verdict = profile_verdict(head_only, profile, situation, rule, budget or 0)
        race, chosen, positions = None, head_only, np.empty(0, np.int64)
    else:
        race = _run(candidates, held, schedule, trainer, folder, settings)
        verdict = race_verdict(race, profile, situation, rule, budget)
        chosen = race.winner
        positions = np.concatenate([fold.held_out for fold in held[: schedule.folds]])
    return Choice(
        sample=sample,
        folds=folds,
        profile=profile,
        situation=situation,
        candidates=candidates,
        textbook=rule,
        race=race,
        race_positions=positions,
        head_epochs=settings.train.epochs,
        whole_tuning=settings.tune.epochs * len(held[0].train),
        verdict=verdict,
        plan=measured_plan(verdict, chosen),
    )


def _checkpoints(workspace: Workspace, settings: Settings) -> Path:
    """The folder of these inputs; those of other inputs go."""
    preprocessed = Preprocessed.read_in(workspace)
    key = sha256_record(
        {
            "images": preprocessed.model_dump(mode="json"),
            "manifest": sha256_file(workspace.preprocessed / "manifest.parquet"),
            "backbone": sha256_file(workspace.assembled / WHOLE_BACKBONE),
            "assembled": sha256_file(Assembled.path_in(workspace)),
            "profile": settings.of_profile(),
            "trials": settings.of_trials(),
            # What another version of the code has measured is not what this one would.
            "made_by": code_state("graftline/steps/freeze.py", trains=True),
        }
    )
    parent = workspace.var / "checkpoints" / "freeze"
    folder = parent / key[:24]
    folder.mkdir(parents=True, exist_ok=True)
    for other in parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _measure_speeds(
    workspace: Workspace,
    assembled: Assembled,
    depths: tuple[Depth, ...],
    profile: Profile,
    sample: NDArray[np.int64],
    folder: Path,
    computing: Computing,
) -> None:
    """At the first, the chosen and the last depth: each takes a conversion of its own."""
    backbone = sha256_file(workspace.assembled / WHOLE_BACKBONE)
    known = DepthSpeeds.find_in(workspace)
    if (
        known
        and known.backbone_sha256 == backbone
        and set(known.by_layer) == {d.layer for d in depths}
    ):
        return
    wanted = {depths[0].layer, profile.cheapest.layer, depths[-1].layer}
    some = [depth for depth in depths if depth.layer in wanted]
    measured = images_per_second(workspace, assembled, some, sample, folder, computing)
    DepthSpeeds.of(backbone, depths, measured).write(DepthSpeeds.path_in(workspace))


def _schedule(
    folder: Path,
    settings: Settings,
    trainer: TrialRunner,
    assembled: Assembled,
    candidates: tuple[Candidate, ...],
    folds: tuple[Fold, ...],
    begun_s: float,
) -> tuple[Schedule | None, int | None]:
    last = last_clean_layer(assembled)
    head_only, everything = (make_candidate(assembled, kind, last) for kind in ("all", "none"))
    pace = None
    if isinstance(settings.freeze.budget, Seconds):
        path = folder / "pace.json"
        pace = recorded_pace(path, trainer, head_only, everything, folds[0], settings, begun_s)
    costs = pace.costs(settings) if pace else Costs(settings)
    budget = in_multiply_adds(settings.freeze, costs, everything, len(folds[0].train), pace)
    start_cost = pace.start_cost() if pace else 0
    return make_schedule(candidates, folds, costs, budget, start_cost), budget


def _run(
    candidates: tuple[Candidate, ...],
    folds: tuple[Fold, ...],
    schedule: Schedule,
    trainer: TrialRunner,
    folder: Path,
    settings: Settings,
) -> Race:
    trials = schedule.folds * sum(min(rung.most, schedule.candidates) for rung in schedule.rungs)
    with progress("race", trials, "trainings") as bar:
        return run_race(
            candidates,
            folds,
            schedule,
            trainer,
            folder,
            settings.seed,
            lambda status: bar.advance(1, status),
            resources_of("cpu" if settings.computing.takes_litert else "gpu"),
        )
