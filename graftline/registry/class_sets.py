"""Two models are comparable only if they name the same classes: a registered model is one task."""

from __future__ import annotations

from collections.abc import Collection

from graftline.core.errors import GraftlineError
from graftline.core.records import Trained
from graftline.core.workspace import Workspace
from graftline.registry import tracking
from graftline.registry.tracking import CHAMPION

_CLASSES_TOLD = 20


def only_in_each(own: Collection[str], others: Collection[str], whose: str) -> str | None:
    """Which classes only one of two models knows, in words; None if both know the same.

    Args:
        own: The challenger's.
        others: The other model's.
        whose: The other model in words.
    """
    mine, theirs = set(own) - set(others), set(others) - set(own)
    if not (mine or theirs):
        return None
    return f"only the challenger: {_listed(mine)}; only the {whose}: {_listed(theirs)}"


def begin_anew(name: str) -> str:
    """How a model of other classes gets a champion of its own, in words."""
    return (
        f"if this is another task, its model needs another name than {name}: "
        "python -m flows.train --set register.model_name=NAME"
    )


def foretold(workspace: Workspace, name: str, classes: Collection[str]) -> str | None:
    """What is to be said before a training whose model cannot be compared with the champion.

    Args:
        workspace: Whose registry is asked.
        name: The registered model.
        classes: Of the data that are trained on.

    Returns:
        None if there is no champion, or it knows the same classes, or cannot be asked: then the
        step ``promote`` tells what is wrong.
    """
    try:
        champion = tracking.find_version(workspace, name, CHAMPION)
        if champion is None:
            return None
        folder = tracking.fetch_model(workspace, champion)
        known = Trained.read(folder / Trained.file_name()).classes
    except GraftlineError:
        return None
    if (different := only_in_each(classes, known, "champion")) is None:
        return None
    return (
        f"attention: {name} version {champion.version}, the champion, knows other classes "
        f"({different}), so the model that is trained now cannot take its place; "
        f"{begin_anew(name)}"
    )


def _listed(names: Collection[str]) -> str:
    shown = sorted(names)[:_CLASSES_TOLD]
    more = len(names) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more else "")
