"""The picture of a drift report; its title says the finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graftline.evaluation import style
from graftline.inference.drift.decision import Drift
from graftline.inference.drift.statistics import FeatureTests

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 40
_MOST_LABELS = 12
_NAME_LENGTH = 18


@style.styled
def drift_picture(
    drift: Drift, features: FeatureTests, held_out: FeatureTests, min_distance: float
) -> Figure:
    """Distances of all features, the features that moved most, and the labels' shares."""
    state = "have drifted" if drift.alarm else "have not drifted"
    title = f"These images {state}: {style.percent(drift.share)} of the features did"
    figure = style.new_figure(
        f"{title}, {style.percent(drift.threshold)} may",
        f"{style.thousands(drift.images)} images of the batch and "
        f"{style.thousands(drift.reference_images)} of the training split; "
        f"{style.thousands(drift.features)} features",
        13.0,
        4.8,
    )
    distances, top, labels = figure.subplots(1, 3, width_ratios=[1.2, 1.1, 1])
    _draw_distances(distances, drift, features, held_out, min_distance)
    _draw_top(top, drift)
    _draw_labels(labels, drift)
    return figure


def _draw_distances(
    axes: Axes, drift: Drift, features: FeatureTests, held_out: FeatureTests, min_distance: float
) -> None:
    bins = np.linspace(0, 1, _BINS + 1).tolist()
    usual = f"validation split ({style.thousands(drift.held_out_images)} images)"
    axes.hist(held_out.distances, bins, color=style.BLUE, alpha=0.65, label=usual)
    axes.hist(features.distances, bins, color=style.VERMILION, alpha=0.65, label="this batch")
    axes.axvline(min_distance, color=style.MUTED, linestyle="--", linewidth=1.2)
    axes.set_title(f"Distance from the training images; above {min_distance:g} it counts")
    axes.set_xlabel("Kolmogorov-Smirnov distance")
    axes.set_ylabel("features")
    axes.legend(frameon=False)
    axes.set_xlim(0, 1)


def _draw_top(axes: Axes, drift: Drift) -> None:
    places = range(len(drift.top))
    axes.barh(places, [one.shift for one in drift.top], color=style.VERMILION, alpha=0.85)
    axes.set_yticks(places, [f"feature {one.feature}" for one in drift.top], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_title("How far the features with the largest distance moved")
    axes.set_xlabel("standard deviations of the training images (Wasserstein)")
    axes.grid(axis="y", visible=False)


def _draw_labels(axes: Axes, drift: Drift) -> None:
    order = sorted(drift.labels.items(), key=lambda item: -abs(item[1].batch - item[1].train))[
        :_MOST_LABELS
    ]
    kept = {name for name, _ in order}
    shown = [(name, share) for name, share in drift.labels.items() if name in kept]
    places = np.arange(len(shown))
    train = [100 * share.train for _, share in shown]
    batch = [100 * share.batch for _, share in shown]
    axes.barh(places - 0.2, train, 0.4, color=style.BLUE, alpha=0.65, label="training split")
    axes.barh(places + 0.2, batch, 0.4, color=style.VERMILION, alpha=0.85, label="this batch")
    short = dict(
        zip(drift.labels, style.shorten_all(list(drift.labels), _NAME_LENGTH), strict=True)
    )
    axes.set_yticks(places, [short[name] for name, _ in shown], fontsize=8.5)
    axes.invert_yaxis()
    some = f"the {len(shown)} that changed most" if len(shown) < len(drift.labels) else "all"
    axes.set_title(f"Labels that the model gives ({some})")
    axes.set_xlabel("% of the images")
    axes.legend(frameon=False, fontsize=8.5)
    axes.grid(axis="y", visible=False)
