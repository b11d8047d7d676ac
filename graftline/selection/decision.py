"""The verdict: what was chosen, and the sentence that says why, in numbers."""

from __future__ import annotations

from typing import Any

from graftline.core.records import FreezePlan
from graftline.evaluation.style import percent
from graftline.selection.candidates import Candidate
from graftline.selection.profile import Profile
from graftline.selection.records import Situation, Verdict
from graftline.selection.successive_halving import Race, Result


def race_verdict(
    race: Race, profile: Profile, situation: Situation, textbook: Candidate, budget: int | None
) -> Verdict:
    """The verdict after a race."""
    chosen, best = (_last_result(race, one.name) for one in (race.winner, race.best))
    rule = [result for result in race.results if result.candidate == textbook.name]
    names = {result.candidate for result in race.results}
    facts = _Facts(profile, situation, textbook)
    return Verdict(
        decided_by="race",
        **facts.shared(race.winner),
        accuracy=chosen.accuracy,
        standard_error=chosen.standard_error,
        held_out=chosen.held_out,
        p_value=chosen.p_value,
        loss_p_value=chosen.loss_p_value,
        best=best.candidate,
        best_accuracy=best.accuracy,
        textbook_accuracy=rule[-1].accuracy if rule else None,
        candidates=len(names),
        budget=budget,
        spent=sum(result.cost for result in race.results),
        sentence=facts.sentence(_of_race(race, chosen, best, textbook, rule, len(names))),
    )


def profile_verdict(
    chosen: Candidate, profile: Profile, situation: Situation, textbook: Candidate, budget: int
) -> Verdict:
    """The verdict where the budget pays for no race."""
    cheapest, best = profile.cheapest, profile.best
    facts = _Facts(profile, situation, textbook)
    reached = _accuracy(cheapest.accuracy, cheapest.standard_error)
    why = (
        f"The budget pays for no race, so the profile alone decides: {chosen.name}, where the "
        f"probe reaches {reached}, the cheapest depth within one standard error of the best "
        f"({percent(best.accuracy)} at {best.layer})"
    )
    return Verdict(
        decided_by="profile",
        **facts.shared(chosen),
        accuracy=cheapest.accuracy,
        standard_error=cheapest.standard_error,
        held_out=profile.answers.shape[1],
        p_value=cheapest.p_value,
        loss_p_value=None,
        best=best.layer,
        best_accuracy=best.accuracy,
        textbook_accuracy=None,
        candidates=0,
        budget=budget,
        spent=0,
        sentence=facts.sentence(why),
    )


def measured_plan(verdict: Verdict, candidate: Candidate) -> FreezePlan:
    """The plan file's content: the chosen candidate's, with the verdict as its reason."""
    return candidate.plan.model_copy(update={"measured": True, "reason": verdict.sentence})


class _Facts:
    """What both kinds of verdict say."""

    def __init__(self, profile: Profile, situation: Situation, textbook: Candidate) -> None:
        self._profile, self._situation, self._textbook = profile, situation, textbook

    def shared(self, chosen: Candidate) -> dict[str, Any]:
        costs = {score.layer: score.multiply_adds for score in self._profile.scores}
        return {
            "situation": self._situation.words,
            "facts": self._situation,
            "textbook": self._textbook.name,
            "chosen": chosen.name,
            "cut": chosen.plan.cut,
            "strategy": chosen.plan.strategy,
            "backbone_share": costs[chosen.plan.cut] / self._profile.last.multiply_adds,
        }

    def sentence(self, why: str) -> str:
        situation = self._situation
        return (
            f"The data are {situation.words}: {situation.images_per_class:.0f} training images "
            f"per class, doubling them would add about {_points(situation.gain_of_doubling)}, and "
            f"{self._depth()}. The textbook's rule: {self._textbook.name}. {why}"
        )

    def _depth(self) -> str:
        best, last = self._profile.best, self._profile.last
        if best.layer == last.layer:
            return f"the probe is at its best ({percent(best.accuracy)}) at the last layer"
        return (
            f"from {best.layer} to the last layer the probe "
            f"{'falls' if self._situation.different else 'does not fall for sure'} "
            f"({percent(best.accuracy)} to {percent(last.accuracy)}, p {p_words(last.p_value)})"
        )


def p_words(p_value: float) -> str:
    """A p-value as people write it."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.2g}"


def _of_race(
    race: Race, chosen: Result, best: Result, textbook: Candidate, rule: list[Result], count: int
) -> str:
    said = (
        f"Chosen of {count} raced: {chosen.candidate}, "
        f"{_accuracy(chosen.accuracy, chosen.standard_error)} of {chosen.held_out:,} held-out "
        "images"
    )
    if chosen.candidate == best.candidate:
        said += (
            f", the one with the lowest loss of the last round ({best.loss:.3f}) and with no "
            "cheaper one as good"
        )
    else:
        said += (
            ", the cheapest that is not significantly worse than the one with the lowest loss "
            f"({best.candidate}, {percent(best.accuracy)}; p {p_words(chosen.p_value)} by answers, "
            f"p {p_words(chosen.loss_p_value)} by losses)"
        )
    if textbook.name == race.winner.name:
        return said + "; the textbook's rule says the same"
    if rule:
        return said + f"; the textbook's choice reached {percent(rule[-1].accuracy)}"
    return said + "; the budget did not pay for the textbook's choice"


def _last_result(race: Race, name: str) -> Result:
    return [result for result in race.results if result.candidate == name][-1]


def _accuracy(accuracy: float, error: float) -> str:
    return f"{percent(accuracy)} ± {100 * error:.1f}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
