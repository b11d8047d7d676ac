"""The commands are named by text, and imported when they are called: each name must be right."""

from __future__ import annotations

import argparse
import inspect
from importlib import import_module
from pathlib import Path

import pytest

from graftline.cli.main import make_parser


def lazy_commands() -> list[tuple[str, argparse.ArgumentParser]]:
    (commands,) = (
        one for one in make_parser()._actions if isinstance(one, argparse._SubParsersAction)
    )
    return [
        (name, one)
        for name, one in commands.choices.items()
        if "module" in inspect.getclosurevars(one.get_default("command")).nonlocals
    ]


NEEDED = {
    "compare": ["1", "2"],
    "completion": ["bash"],
    "init": ["folder"],
    "predict": ["a.png"],
    "reproduce": ["1"],
}


def names() -> list[str]:
    (commands,) = (
        one for one in make_parser()._actions if isinstance(one, argparse._SubParsersAction)
    )
    return list(commands.choices)


@pytest.mark.parametrize("name", names())
def test_the_folder_stands_before_the_command_or_behind_it(name: str) -> None:
    needed = NEEDED.get(name, [])
    for before, behind in ((["-C", "there", "--debug"], []), ([], ["-C", "there", "--debug"])):
        options = make_parser().parse_args([*before, name, *needed, *behind])
        assert (options.directory, options.debug) == (Path("there"), True)
    assert make_parser().parse_args([name, *needed]).directory == Path()
    assert make_parser().parse_args(["-C", "a", name, *needed, "-C", "b"]).directory == Path("b")


@pytest.mark.parametrize(("name", "parser"), lazy_commands(), ids=lambda one: str(one)[:12])
def test_a_command_calls_a_function_that_takes_its_options(
    name: str, parser: argparse.ArgumentParser
) -> None:
    named = inspect.getclosurevars(parser.get_default("command")).nonlocals
    function = getattr(import_module(f"graftline.{named['module']}"), named["function"])
    inspect.signature(function).bind(None, **dict.fromkeys(named["names"]))
    # What stands behind run is its flow's to read.
    read = {action.dest for action in parser._actions} | ({"rest"} if name == "run" else set())
    assert set(named["names"]) <= read, name
