"""After which layers each backbone can be cut, known without building it.

The file beside this one lists them; a slow test holds it against the networks themselves.
"""

from __future__ import annotations

import difflib
import functools
import json
from importlib.resources import files

from graftline.core.errors import ParamsError
from graftline.core.params import BackboneParams

_FILE = "backbone_cuts.json"
_SUGGESTED = 5


def cuts_of(name: str) -> list[str]:
    """The layers, from the input on; those on a side path of a shortcut are none of them."""
    return _cuts()[name]


def check_cut(backbone: BackboneParams) -> None:
    """Refuses a cut that the backbone does not have, before anything is run.

    Raises:
        ParamsError: Naming the nearest ones.
    """
    cut, cuts = backbone.cut, cuts_of(backbone.name)
    if cut is None or cut in cuts:
        return
    near = difflib.get_close_matches(cut, cuts, n=_SUGGESTED, cutoff=0.7)
    whose = [name for name in _cuts() if cut in cuts_of(name)]
    told = f": it is one of {', '.join(whose)}" if whose else ""
    raise ParamsError(
        f"backbone.cut: {backbone.name} cannot be cut after {cut!r}{told}",
        where="params.yaml",
        allowed=f"{', '.join(near) or f'one of {len(cuts)} layers, as {cuts[-1]}'}; or null",
        fix="set backbone.cut: null, which cuts after its usual last layer, "
        f"{backbone.family.last_layer}; after a run reports/freezing/layers.csv names all layers "
        "up to the cut",
    )


@functools.cache
def _cuts() -> dict[str, list[str]]:
    text = (files("graftline.core") / _FILE).read_text(encoding="utf-8")
    found: dict[str, list[str]] = json.loads(text)
    return found
