"""How every figure looks and is written: one style, names and numbers as people read them.

The same input gives the same bytes: fonts are Matplotlib's own, and no date or version is written.
Blue and vermilion are told apart with every kind of colour vision (Okabe and Ito's palette).
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE = "#0072B2"
VERMILION = "#D55E00"
INK = "#222222"
MUTED = "#666666"

DPI = 110
MARGIN_IN = 0.12
HEADER_IN = 0.66
_LEAST_ROOM = 3
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#E4E4E4",
    "lines.linewidth": 2,
    "text.color": INK,
    "text.parse_math": False,  # a class may be named "$5 bill"
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}

_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Draws in the common style, whatever the user's own matplotlibrc says."""

    @functools.wraps(draw)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        import matplotlib

        defaults = {
            key: value
            for key, value in matplotlib.rcParamsDefault.items()
            if not key.startswith(("backend", "webagg"))
        }
        with matplotlib.rc_context({**defaults, **_STYLE}):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(title: str, subtitle: str, width_in: float, height_in: float) -> Figure:
    """An empty figure whose title, at the top left, says what it shows."""
    # Not pyplot: no global state, and no window system to choose.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    below_header = (0, 0, 1, 1 - (HEADER_IN - MARGIN_IN) / height_in)
    layout = ConstrainedLayoutEngine(w_pad=MARGIN_IN, h_pad=MARGIN_IN, rect=below_header)
    figure = Figure(figsize=(width_in, height_in), layout=layout)
    left, top = MARGIN_IN / width_in, 1 - MARGIN_IN / height_in
    figure.text(left, top, title, va="top", fontsize=13, fontweight="bold")
    figure.text(left, top - 0.27 / height_in, subtitle, va="top", color=MUTED)
    return figure


@styled
def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG whose bytes depend on the figure alone."""
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes: no reason to fail.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage, which is 0 or 100 only where the share is 0 or 1."""
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    text = f"{100 * share:.{digits}f}"
    step = 10.0**-digits
    if float(text) == 100:
        return f"> {100 - step:.{digits}f} %"
    if float(text) == 0:
        return f"< {step:.{digits}f} %"
    return f"{text} %"


def thousands(count: float) -> str:
    """A whole number with narrow spaces between its thousands."""
    return f"{count:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def shorten(name: str, length: int) -> str:
    """A name with its middle left out where it is too long, since either end may tell it apart."""
    name = " ".join(name.split())
    if len(name) <= length:
        return name
    tail = (length - 1) // 2
    return f"{name[: length - 1 - tail]}…{name[len(name) - tail :]}"


def shorten_all(names: Sequence[str], length: int) -> list[str]:
    """Names for one figure; see :func:`shorten`.

    Where several would come to the same, what they have in common is left out before what tells
    them apart.
    """
    short = {name: shorten(name, length) for name in dict.fromkeys(names)}
    alike: dict[str, list[str]] = {}
    for name, said in short.items():
        alike.setdefault(said, []).append(name)
    for group in alike.values():
        if len(group) > 1:
            short |= dict(zip(group, _told_apart(group, length), strict=True))
    return [short[name] for name in names]


def _told_apart(names: Sequence[str], length: int) -> list[str]:
    whole = [" ".join(name.split()) for name in names]
    head = len(os.path.commonprefix(whole))
    tail = len(os.path.commonprefix([name[head:][::-1] for name in whole]))
    room = length - 2
    if head + tail == 0 or room < _LEAST_ROOM:
        return [shorten(name, length) for name in whole]
    middles = shorten_all([name[head : len(name) - tail] for name in whole], room)
    # What is left of the room shows how all of them begin, and end.
    rest = room - max(map(len, middles))
    begin = min(head, rest)
    end = min(tail, rest - begin)
    before = whole[0][:begin] + "…" * (begin < head)
    after = "…" * (end < tail) + whole[0][len(whole[0]) - end :]
    return [f"{before}{middle}{after}" for middle in middles]
