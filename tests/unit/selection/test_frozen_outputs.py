"""What the race keeps on the disk, without a network: see ``tests/model`` for its contents."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from graftline.core.params import ExtractParams
from graftline.core.stages import POOLED
from graftline.selection.trainer import CandidateTrainer, _Key


class Kept:
    """Outputs of a size, which tell whether they were closed."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes, self.closed = nbytes, False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("needed_gb", "left"), [(1, ["early", "late"]), (2, ["late"]), (7, []), (9, [])]
)
def test_maps_of_all_candidates_take_no_more_than_extract_may_keep(
    needed_gb: int, left: list[str]
) -> None:
    pooled, maps = Kept(10**12), {"early": Kept(4 * 10**9), "late": Kept(2 * 10**9)}
    outputs: dict[_Key, Any] = {_Key("cut", POOLED, "keep"): pooled}
    outputs |= {_Key("", name, "keep"): one for name, one in maps.items()}
    trainer = SimpleNamespace(
        _outputs=outputs, _settings=SimpleNamespace(extract=ExtractParams(max_cache_gb=7))
    )
    CandidateTrainer._make_room(trainer, needed_gb * 10**9, pooled=False)  # type: ignore[arg-type]
    assert [key.boundary for key in outputs if key.boundary != POOLED] == left
    assert [name for name, one in maps.items() if not one.closed] == left
    assert not pooled.closed
