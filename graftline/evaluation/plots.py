"""The figures of the evaluation, each of which says its finding in its title."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graftline.evaluation import style
from graftline.evaluation.calibration import Reliability, accuracy_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MOST_IN_MATRIX = 90
"""Classes: with more, the confusion matrix has no room for their names on a page."""
PAIRS_SHOWN = 30
"""Instead of the matrix: the pairs of classes with the most mistakes."""
_MATRIX_MAX_IN = 17.0
_NAME_LENGTH = 22
_TILE_NAME_LENGTH = 18
_PICTURE_IN = 1.36
_TILE_IN = (_PICTURE_IN + 0.14, _PICTURE_IN + 0.72)
_THUMBNAIL_PX = 224
_PIXELATED_BELOW_PX = 64


@dataclass(frozen=True)
class Mistake:
    """One image that the model got wrong."""

    image: NDArray[np.uint8]
    """Shape (height, width, 1 or 3)."""
    label: str
    predicted: str
    probability: float
    """Of the predicted class."""


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (height, width, 1 or 3) as it fits into the gallery, at most 224 px."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    return np.array(picture).reshape(picture.height, picture.width, image.shape[-1])


@style.styled
def learning_curves(history: Mapping[str, Sequence[float]], best_epoch: int) -> Figure:
    """Loss and accuracy by epoch, with the epoch whose weights were kept.

    Args:
        history: Columns epoch, loss, accuracy, validation_loss, validation_accuracy.
        best_epoch: Counted from 1.
    """
    epochs = list(history["epoch"])
    best = epochs.index(best_epoch)
    figure = style.new_figure(
        f"Kept after epoch {best_epoch} of {len(epochs)}: "
        f"{style.percent(history['validation_accuracy'][best])} of the validation images right",
        "The large dot is the epoch whose weights were kept",
        10.5,
        4.4,
    )
    loss, accuracy = figure.subplots(1, 2)
    _draw_curves(loss, history, "loss", best, lambda value: f"{value:.3g}", free_end=1)
    _draw_curves(accuracy, history, "accuracy", best, style.percent, free_end=0.02)
    highest = max(*history["loss"], *history["validation_loss"])
    loss.set(title="Loss (cross-entropy)", ylim=(0, 1.1 * highest))
    accuracy.set(title="Accuracy", ylim=(None, 1.002))
    accuracy.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    return figure


@style.styled
def confusion_matrix(
    counts: NDArray[np.integer], classes: Sequence[str], interval: tuple[float, float]
) -> Figure:
    """How often each class was taken for each other, mistakes in a logarithmic colour.

    Args:
        counts: Images by true class (rows) and predicted class (columns), shape (K, K).
        classes: The K names.
        interval: The 95 % interval of the accuracy.
    """
    names = style.shorten_all(classes, _NAME_LENGTH)
    # The more classes, the smaller the cells, down to what a page can hold.
    cell_in = min(max(0.19, 0.66 - 0.012 * len(classes)), _MATRIX_MAX_IN / len(classes))
    side_in = cell_in * len(classes)
    names_in = 0.084 * max(len(name) for name in names)
    total, right = int(counts.sum()), int(np.trace(counts))
    figure = style.new_figure(
        f"{style.percent(right / total)} of {style.thousands(total)} test images right "
        f"({style.percent(interval[0])} to {style.percent(interval[1])})",
        _worst_confusion(counts, names),
        max(side_in + names_in + 1.4, 6.2),
        side_in + names_in + style.HEADER_IN + 0.6,
    )
    axes = figure.add_subplot()
    axes.set_anchor("NW")
    _colour_matrix(axes, counts)
    if cell_in >= 0.3:
        _write_counts(axes, counts, font_pt=min(11.0, cell_in * 24))
    _name_matrix(axes, names, cell_in)
    return figure


@style.styled
def most_confused(
    pairs: Sequence[tuple[int, int, int]],
    right: NDArray[np.integer],
    support: NDArray[np.integer],
    classes: Sequence[str],
    interval: tuple[float, float],
) -> Figure:
    """Of many classes: the pairs with the most mistakes, and how many classes have which recall.

    Args:
        pairs: True class, the one that it is taken for, and how often; the most frequent first.
        right: Images of each class that are named right, (classes,).
        support: Images of each class, (classes,).
        classes: Their names.
        interval: The 95 % interval of the accuracy.
    """
    total, named = int(support.sum()), int(right.sum())
    # Each is to be told from all others, also from those that are not shown.
    names = style.shorten_all(classes, _NAME_LENGTH)
    told = "No mistakes."
    if pairs:
        true, predicted, count = pairs[0]
        told = (
            f"Most often {names[true]} is taken for {names[predicted]}: "
            f"{count} of {support[true]} images"
        )
    figure = style.new_figure(
        f"{style.percent(named / total)} of {style.thousands(total)} test images right "
        f"({style.percent(interval[0])} to {style.percent(interval[1])})",
        f"In brackets: the 95 % interval. {told}",
        11.0,
        max(3.2, 1.4 + 0.2 * len(pairs)),
    )
    left, beside = figure.subplots(1, 2, width_ratios=[3, 2])
    _draw_pairs(left, pairs, support, names)
    measured = support > 0
    recalls = right[measured] / support[measured]
    beside.hist(recalls, np.linspace(0, 1, 11), color=style.BLUE, edgecolor="white")
    beside.set(
        title=f"Recall of {style.thousands(int(measured.sum()))} classes",
        xlabel="share of a class's images that are right",
        ylabel="classes",
        xlim=(0, 1),
    )
    beside.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    _whole_numbers(beside.yaxis, most=8)
    return figure


def _draw_pairs(
    axes: Axes,
    pairs: Sequence[tuple[int, int, int]],
    support: NDArray[np.integer],
    names: Sequence[str],
) -> None:
    shown = [f"{names[true]} → {names[predicted]}" for true, predicted, _ in pairs]
    counts = [count for _, _, count in pairs]
    axes.barh(range(len(pairs)), counts, color=style.VERMILION, height=0.7)
    for place, (true, _, count) in enumerate(pairs):
        axes.text(
            count, place, f" {count} of {support[true]}", va="center", color=style.MUTED, fontsize=8
        )
    axes.set_yticks(range(len(pairs)), shown, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.set(title="Mistakes: is → taken for", xlabel="images")
    axes.grid(axis="y", visible=False)
    _whole_numbers(axes.xaxis, most=6)


@style.styled
def reliability_diagram(table: Reliability) -> Figure:
    """Accuracy by confidence with 95 % intervals, above how many images have that confidence."""
    figure = style.new_figure(
        f"Confidences are off by {_points(table.expected_error)} on average",
        f"Expected calibration error {table.expected_error:.3f} in {len(table.images)} bins; "
        f"over all images {_tendency(table.overconfidence)}",
        7.2,
        6.6,
    )
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _draw_reliability(upper, table)
    lower.bar(
        table.edges[:-1],
        table.images,
        np.diff(table.edges),
        align="edge",
        color=style.BLUE,
        edgecolor="white",
    )
    lower.set(xlabel="confidence in the predicted class", ylabel="images")
    lower.grid(axis="x", visible=False)
    lower.yaxis.set_major_formatter(lambda value, _: style.thousands(value))
    _whole_numbers(lower.yaxis, most=4)
    return figure


@style.styled
def worst_mistakes(mistakes: Sequence[Mistake], of: int) -> Figure:
    """The images that the model got wrong while being most sure, the surest first.

    Args:
        mistakes: What to show, in this order; may be empty.
        of: How many mistakes there are in all.
    """
    if not mistakes:
        return _empty_gallery(of)
    columns = min(max(4, math.ceil(math.sqrt(len(mistakes) * 1.6))), 10)
    rows = math.ceil(len(mistakes) / columns)
    width_in = columns * _TILE_IN[0] + style.MARGIN_IN
    height_in = rows * _TILE_IN[1] + style.HEADER_IN
    figure = style.new_figure(
        _gallery_title(len(mistakes), of),
        "Above: what it is. Below: what the model says, and how sure it is.",
        width_in,
        height_in,
    )
    # By hand, since the layout engine takes ten seconds for 200 images.
    figure.set_layout_engine("none")
    names = [name for one in mistakes for name in (one.label, one.predicted)]
    short = dict(zip(names, style.shorten_all(names, _TILE_NAME_LENGTH), strict=True))
    for place, mistake in enumerate(mistakes):
        row, column = divmod(place, columns)
        left_in = style.MARGIN_IN + column * _TILE_IN[0]
        bottom_in = height_in - style.HEADER_IN - row * _TILE_IN[1] - _PICTURE_IN - 0.22
        _draw_mistake(figure, mistake, short, left_in, bottom_in)
    return figure


def _draw_curves(
    axes: Axes,
    history: Mapping[str, Sequence[float]],
    name: str,
    best: int,
    shown: Callable[[float], str],
    free_end: float,
) -> None:
    epochs, training, validation = (
        list(history[column]) for column in ("epoch", name, f"validation_{name}")
    )
    dots = "o" if len(epochs) <= 30 else None
    for values, other, colour, title in (
        (training, validation, style.BLUE, "training"),
        (validation, training, style.VERMILION, "validation"),
    ):
        axes.plot(epochs, values, color=colour, marker=dots, markersize=3.5)
        axes.annotate(
            title,
            (epochs[-1], values[-1]),
            xytext=(9, 6 if values[-1] >= other[-1] else -6),
            textcoords="offset points",
            va="center",
            color=colour,
            weight="bold",
            annotation_clip=False,
        )
    axes.axvline(epochs[best], color=style.MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    axes.plot(epochs[best], validation[best], "o", color=style.VERMILION, markersize=9)
    # Beside the dotted line, at the end where this kind of curve seldom is.
    left = best >= (len(epochs) - 1) / 2
    axes.annotate(
        f"epoch {epochs[best]}: {shown(validation[best])}",
        (epochs[best], free_end),
        xycoords=("data", "axes fraction"),
        xytext=(-6 if left else 6, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top" if free_end == 1 else "bottom",
        color=style.VERMILION,
    )
    axes.set_xlabel("epoch")
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.margins(y=0.15)
    axes.grid(axis="x", visible=False)
    _whole_numbers(axes.xaxis, most=10)


def _worst_confusion(counts: NDArray[np.integer], names: Sequence[str]) -> str:
    interval = "In brackets: the 95 % interval. "
    mistakes = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    if not mistakes.any():
        return interval + "No mistakes."
    true, predicted = divmod(int(mistakes.argmax()), len(counts))
    return interval + (
        f"Most often {names[true]} is taken for {names[predicted]}: "
        f"{mistakes.max()} of {counts[true].sum()} images"
    )


def _colour_matrix(axes: Axes, counts: NDArray[np.integer]) -> None:
    from matplotlib.colors import LogNorm

    diagonal = np.eye(len(counts), dtype=bool)
    of_class = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, of_class, where=of_class > 0, out=np.zeros(counts.shape))
    mistakes = np.ma.masked_where(diagonal | (counts == 0), counts)
    most = max(int(mistakes.max()) if mistakes.count() else 1, 10)
    axes.imshow(np.ma.masked_where(~diagonal, share), cmap="Blues", vmin=0, vmax=1.6)
    # From below one image, so that a single mistake is far from white.
    axes.imshow(mistakes, cmap="Oranges", norm=LogNorm(0.3, most * 1.5))


def _write_counts(axes: Axes, counts: NDArray[np.integer], font_pt: float) -> None:
    for (true, predicted), count in np.ndenumerate(counts):
        if count or true == predicted:
            text = style.thousands(count)
            axes.text(
                predicted,
                true,
                text,
                ha="center",
                va="center",
                fontsize=font_pt * min(1, 4 / len(text)),
                color=style.INK,
            )
    axes.text(
        len(counts) - 0.3, -0.75, "recall", va="center", color=style.MUTED, fontsize=font_pt * 0.9
    )
    for true, row in enumerate(counts):
        axes.text(
            len(counts) - 0.3,
            true,
            style.percent(row[true] / row.sum()) if row.sum() else "no image",
            va="center",
            color=style.MUTED,
            fontsize=font_pt * 0.9,
        )


def _name_matrix(axes: Axes, names: Sequence[str], cell_in: float) -> None:
    font_pt = min(10.0, max(6.0, cell_in * 72 * 0.72))
    every = math.ceil(font_pt * 1.05 / (cell_in * 72))
    places = range(0, len(names), every)
    shown = [names[place] for place in places]
    upright = max(len(name) for name in names) * font_pt * 0.62 > cell_in * every * 72
    axes.set_xticks(places, shown, rotation=90 if upright else 0, fontsize=font_pt)
    axes.set_yticks(places, shown, fontsize=font_pt)
    axes.set(xlabel="taken for", ylabel="is")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    borders = np.arange(len(names) + 1) - 0.5
    axes.hlines(borders, -0.5, len(names) - 0.5, color="#EDEDED", linewidth=0.6)
    axes.vlines(borders, -0.5, len(names) - 0.5, color="#EDEDED", linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_reliability(axes: Axes, table: Reliability) -> None:
    filled = table.images > 0
    confidence, accuracy = table.confidence[filled], table.accuracy[filled]
    low, high = np.array(
        [
            accuracy_interval(round(share * images), int(images))
            for share, images in zip(accuracy, table.images[filled], strict=True)
        ]
    ).T
    axes.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(
        0.04,
        0.06,
        "as sure as right",
        color=style.MUTED,
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
    )
    axes.vlines(confidence, low, high, color=style.BLUE, linewidth=1.5, alpha=0.5)
    axes.plot(confidence, accuracy, "o", color=style.BLUE, markersize=7)
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02), ylabel="images that are right (95 % intervals)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def _gallery_title(shown: int, of: int) -> str:
    if of == 1:
        return "The only mistake"
    if shown == of:
        return f"All {of} mistakes, the surest first"
    return f"The {shown} surest of {style.thousands(of)} mistakes"


def _empty_gallery(of: int) -> Figure:
    if of:
        title, subtitle = (
            f"{style.thousands(of)} mistakes",
            "None is shown: evaluate.worst_mistakes is 0",
        )
    else:
        title, subtitle = "No mistakes", "Every test image is right"
    return style.new_figure(title, subtitle, 6.4, 0.9)


def _draw_mistake(
    figure: Figure, mistake: Mistake, names: Mapping[str, str], left_in: float, bottom_in: float
) -> None:
    width_in, height_in = figure.get_size_inches()
    axes = figure.add_axes(
        (left_in / width_in, bottom_in / height_in, _PICTURE_IN / width_in, _PICTURE_IN / height_in)
    )
    axes.axis("off")
    image = thumbnail(mistake.image)
    image = image[..., 0] if image.shape[-1] == 1 else image
    pixelated = max(image.shape[:2]) < _PIXELATED_BELOW_PX
    axes.imshow(
        image,
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="nearest" if pixelated else "antialiased",
    )
    for above_in, alignment, text, colour in (
        (_PICTURE_IN + 0.05, "bottom", names[mistake.label], style.BLUE),
        (-0.05, "top", names[mistake.predicted], style.VERMILION),
        (-0.21, "top", style.percent(mistake.probability), style.MUTED),
    ):
        figure.text(
            (left_in + _PICTURE_IN / 2) / width_in,
            (bottom_in + above_in) / height_in,
            text,
            ha="center",
            va=alignment,
            color=colour,
            fontsize=9,
        )


def _tendency(overconfidence: float) -> str:
    if abs(overconfidence) < 0.0005:
        return "neither too sure nor too modest"
    tendency = "too sure" if overconfidence > 0 else "too modest"
    return f"{_points(abs(overconfidence))} {tendency}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} percentage points"


def _whole_numbers(axis: Axis, most: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=most, integer=True, min_n_ticks=1))
