"""A Prefect server that is away for a moment is waited for; one that says no is not."""

from __future__ import annotations

import httpx
import pytest

from graftline.orchestration import retry
from graftline.orchestration.retry import patiently


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_POLL_S", 0.0)


def answering(*answers: object) -> object:
    left = iter(answers)

    def ask() -> object:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def status(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://127.0.0.1/")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(code))


def test_it_says_that_it_waits_and_that_it_is_over() -> None:
    said: list[str] = []
    away = httpx.ConnectError("refused")
    assert patiently(answering(away, status(503), "here"), said.append, 60) == "here"
    assert said == [
        "Prefect's server does not answer; waiting for it, up to 60 s",
        "Prefect's server answers again",
    ]


def test_who_answers_at_once_is_not_spoken_of() -> None:
    said: list[str] = []
    assert patiently(answering("here"), said.append) == "here"
    assert said == []


def test_it_gives_up_and_says_what_that_means() -> None:
    said: list[str] = []
    assert patiently(answering(httpx.ConnectError("refused")), said.append, 0) is None
    assert said == ["Prefect's server stayed away for 0 s; it is not told everything"]


def test_a_refusal_is_none_of_its_business() -> None:
    with pytest.raises(httpx.HTTPStatusError):
        patiently(answering(status(409)), print, 60)
