from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from graftline.core.processes import ProcessIdentity, end_group, is_ancestor, own_command

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = (
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(60)\n"
)


def test_this_process_is_alive() -> None:
    me = ProcessIdentity.of()
    assert me.pid == os.getpid()
    assert me.alive()
    assert ProcessIdentity.of(me.pid) == me


def test_a_number_used_again_is_another_process() -> None:
    me = ProcessIdentity.of()
    assert not me.model_copy(update={"started": me.started - 100}).alive()


def test_an_ended_process_is_not_alive_even_before_anybody_waited_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        identity = ProcessIdentity.of(process.pid)
        assert process.stdout
        process.stdout.read()
        until = time.monotonic() + 10
        while identity.alive() and time.monotonic() < until:
            time.sleep(0.01)
        assert not identity.alive()


@pytest.mark.kill
def test_a_group_is_ended_whole_even_if_it_does_not_want_to() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as leader:
        assert leader.stdout
        child = ProcessIdentity.of(int(leader.stdout.readline()))
        identity = ProcessIdentity.of(leader.pid)
        assert end_group(identity, grace_s=0.3)
        assert not identity.alive()
        assert not child.alive()
    assert not end_group(identity, grace_s=0.3)


@pytest.mark.kill
def test_the_group_of_another_process_is_left_alone() -> None:
    with subprocess.Popen(SLEEPS, start_new_session=True) as other:
        identity = ProcessIdentity.of(other.pid)
        for update in ({"started": identity.started - 100}, {"boot": "an earlier one"}):
            earlier = identity.model_copy(update=update)
            assert not earlier.alive()
            assert not end_group(earlier, grace_s=0.1)
        assert identity.alive()
        other.kill()


def test_parents_are_ancestors_and_children_are_not() -> None:
    assert is_ancestor(os.getppid())
    with subprocess.Popen(SLEEPS) as child:
        assert not is_ancestor(child.pid)
        child.kill()


def test_the_own_command_names_the_interpreter_without_its_folder() -> None:
    assert own_command().split()[0] == os.path.basename(sys.orig_argv[0])
