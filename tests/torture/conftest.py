"""The Prefect server that the flows' tests share, and an end to what a failed test has started."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows.conftest import prefect_api
from tests.torture import toys

__all__ = ["prefect_api"]


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    toys.end_all()
