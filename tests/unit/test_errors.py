"""Errors say what, where, what is allowed and what to do, also across processes."""

from __future__ import annotations

import pytest

from graftline import errors
from graftline.errors import GraftlineError, StageFailedError, UserError, error_from_json

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, GraftlineError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_the_way_to_another_process(kind: type[GraftlineError]) -> None:
    error = kind("it broke", where="here", allowed="this", fix="do that")
    copy = error_from_json(error.to_json())
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert copy.exit_code == (2 if issubclass(kind, UserError) else 1)


def test_the_text_has_a_line_for_each_part() -> None:
    text = str(UserError("it broke", where="row 3", fix="mend it"))
    assert text.splitlines() == ["it broke", "  where:   row 3", "  do:      mend it"]


def test_an_unknown_kind_becomes_a_failed_stage() -> None:
    text = GraftlineError("it broke").to_json().replace("GraftlineError", "Other")
    assert isinstance(error_from_json(text), StageFailedError)
