"""The two pictures of a choice, each of which says its finding in its title."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from graftline.evaluation import style
from graftline.evaluation.paired import LEVEL
from graftline.selection.decision import p_words
from graftline.selection.profile import DepthScore, Profile
from graftline.selection.records import Verdict
from graftline.selection.successive_halving import Race, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_IN = 0.42


@style.styled
def depth_profile(profile: Profile, verdict: Verdict) -> Figure:
    """Accuracy of the probe by depth and by number of training images."""
    best, last = profile.best, profile.last
    if best.layer == last.layer:
        title = f"Frozen features are best at the last layer: {style.percent(best.accuracy)}"
    else:
        title = (
            f"Frozen features are best at {best.layer}: {style.percent(best.accuracy)}, "
            f"against {style.percent(last.accuracy)} at the last layer"
        )
    figure = style.new_figure(
        title,
        f"Share of {style.thousands(profile.answers.shape[1])} training images that a probe names "
        "right which was fitted without them; bars are one standard error",
        11.5,
        5.4,
    )
    depth, curve = figure.subplots(1, 2, width_ratios=[2.6, 1])
    _draw_depths(depth, profile, verdict)
    _draw_curve(curve, profile)
    return figure


@style.styled
def race_chart(race: Race, candidates: Sequence[str], verdict: Verdict) -> Figure:
    """Accuracy of each candidate in each round, the dearest candidate on top."""
    shown = [name for name in candidates if any(one.candidate == name for one in race.results)]
    rounds = max(result.rung for result in race.results)
    if verdict.chosen == verdict.best:
        title = f"{_capital(verdict.chosen)} wins with {style.percent(verdict.accuracy)}"
    else:
        title = (
            f"{_capital(verdict.chosen)} is cheaper and not surely worse "
            f"(p {p_words(verdict.p_value)})"
        )
    figure = style.new_figure(
        title,
        f"Accuracy on {style.thousands(verdict.held_out)} held-out images after short trainings; "
        "bars are one standard error",
        10.5,
        1.9 + _ROW_IN * len(shown),
    )
    axes = figure.add_subplot()
    for place, name in enumerate(shown):
        results = [result for result in race.results if result.candidate == name]
        _draw_candidate(axes, place, results, rounds, chosen=name == verdict.chosen)
    axes.set_yticks(range(len(shown)), shown)
    for label, name in zip(axes.get_yticklabels(), shown, strict=True):
        chosen = name == verdict.chosen
        label.set(
            color=style.VERMILION if chosen else style.INK, weight="bold" if chosen else "normal"
        )
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.margins(x=0.12)
    axes.set_xlabel("held-out images named right")
    _explain_rounds(axes, race, rounds)
    return figure


def race_order(costs: Mapping[str, int]) -> list[str]:
    """Names from the cheapest to the dearest."""
    return sorted(costs, key=lambda name: (costs[name], name))


def _draw_depths(axes: Axes, profile: Profile, verdict: Verdict) -> None:
    scores = profile.scores
    places = list(range(len(scores)))
    best = profile.best
    # Within this band a depth is as good as the best, as far as these images tell.
    axes.axhspan(
        best.accuracy - best.standard_error,
        best.accuracy,
        color=style.BLUE,
        alpha=0.12,
        linewidth=0,
    )
    axes.errorbar(
        places,
        [score.accuracy for score in scores],
        [score.standard_error for score in scores],
        color=style.BLUE,
        marker="o",
        markersize=5,
        capsize=3,
    )
    places_of = {score.layer: place for place, score in enumerate(scores)}
    tuned = verdict.strategy != "all"
    if verdict.cut != best.layer:
        _mark(axes, places_of[best.layer], best, style.percent(best.accuracy), style.BLUE)
    if verdict.cut in places_of:
        place = places_of[verdict.cut]
        score = scores[place]
        words = f"{style.percent(score.accuracy)}{' frozen' if tuned else ''}, cut here"
        _mark(axes, place, score, words, style.VERMILION, after_best=place > places_of[best.layer])
    axes.set_xticks(
        places,
        [f"{score.layer}\n{score.multiply_adds / 1e6:.3g} M" for score in scores],
        rotation=40,
        ha="right",
        rotation_mode="anchor",
        fontsize=8.5,
    )
    for label, score in zip(axes.get_xticklabels(), scores, strict=True):
        if score.layer == verdict.cut:
            label.set(color=style.VERMILION, weight="bold")
    axes.set_title("Where the backbone is cut, and multiply-adds up to there")
    axes.margins(x=0.05, y=0.16)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def _mark(
    axes: Axes, place: int, score: DepthScore, words: str, colour: str, *, after_best: bool = False
) -> None:
    # Before the best, which may stand right beside it, there is room below; after it, on the right.
    above = score.behind <= 0 or after_best
    error = score.standard_error if above else -score.standard_error
    axes.plot(place, score.accuracy, "o", color=colour, markersize=10, zorder=5)
    axes.annotate(
        words,
        (place, score.accuracy + error),
        xytext=(4 if after_best else 0, (3 if after_best else 8) if above else -8),
        textcoords="offset points",
        ha="left" if after_best else "center",
        va="bottom" if above else "top",
        color=colour,
        weight="bold",
        annotation_clip=False,
    )


def _draw_curve(axes: Axes, profile: Profile) -> None:
    sizes = [point.training_images for point in profile.curve]
    axes.errorbar(
        sizes,
        [point.accuracy for point in profile.curve],
        [point.standard_error for point in profile.curve],
        color=style.BLUE,
        marker="o",
        markersize=5,
        capsize=3,
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [style.thousands(size) for size in sizes])
    axes.minorticks_off()
    axes.set_title("More training images, best depth")
    axes.margins(x=0.12, y=0.16)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def _draw_candidate(
    axes: Axes, place: int, results: Sequence[Result], rounds: int, *, chosen: bool
) -> None:
    colour = style.VERMILION if chosen else style.BLUE
    last = results[-1]
    for result in results:
        # Earlier rounds are paler: they are what led there.
        strength = 0.25 + 0.75 * result.rung / rounds if result is last else 0.35
        axes.errorbar(
            result.accuracy,
            place - 0.16 * (result is not last),
            xerr=result.standard_error,
            color=colour,
            alpha=strength,
            marker="o",
            markersize=8 if result is last else 4,
            capsize=3,
        )
    note = style.percent(last.accuracy)
    if last.rung < rounds:
        note += f", out after round {last.rung}"
    elif last.loss_p_value < 1:
        note += f", p {p_words(last.p_value)}"
        if last.loss_p_value < LEVEL:
            note += f", of losses {p_words(last.loss_p_value)}"
    axes.annotate(
        note,
        (last.accuracy + last.standard_error, place),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        color=colour if last.kept else style.MUTED,
        weight="bold" if chosen else "normal",
        fontsize=9,
        annotation_clip=False,
    )


def _explain_rounds(axes: Axes, race: Race, rounds: int) -> None:
    shown = {result.rung: result.images_shown for result in race.results}
    text = ", then ".join(style.thousands(shown[rung]) for rung in range(1, rounds + 1))
    pale = "; pale dots are earlier rounds" if rounds > 1 else ""
    axes.set_title(f"Each was shown {text} images{pale}", fontsize=9)


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]
