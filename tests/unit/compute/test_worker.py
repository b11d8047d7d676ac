"""What a worker has to show before it may work for a step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from graftline.compute import worker
from graftline.compute.work import refuse_unseen
from graftline.compute.worker import Proof, code_of, problem
from graftline.core.errors import ClusterError


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_proved", {})
    monkeypatch.setattr(worker, "_first_code", {})
    monkeypatch.setattr(worker, "settle", lambda _workspace: None)


@pytest.fixture
def proof(tmp_path: Path) -> Proof:
    (tmp_path / "nonce").write_text("one-time")
    return Proof(tmp_path, "nonce", "one-time", "preprocess", code_of("preprocess"), own=False)


def of(proof: Proof, nonce: str = "another", **code: Any) -> Proof:
    (proof.root / proof.file).write_text(nonce)
    return dataclasses.replace(proof, nonce=nonce, code={**proof.code, **code})


def test_one_that_sees_the_folder_and_has_the_code_may_work(proof: Proof):
    assert problem(proof) is None


def test_who_does_not_see_the_folder_says_so(proof: Proof, tmp_path: Path):
    (tmp_path / "nonce").unlink()
    assert "does not see the project folder" in str(problem(proof))


def test_a_folder_of_the_same_name_is_not_the_same_folder(proof: Proof, tmp_path: Path):
    (tmp_path / "nonce").write_text("of another start")
    assert "sees another folder" in str(problem(proof))


def test_what_differs_is_named(proof: Proof):
    code = {**proof.code["code"], "graftline/data/resize.py": "0" * 64}
    assert "another code in graftline/data/resize.py" in str(problem(of(proof, "a", code=code)))
    packages = {**proof.code["packages"], "numpy": "1.0"}
    told = str(problem(of(proof, "b", packages=packages)))
    assert "another version of numpy" in told and "the step has 1.0" in told
    vectors = ["avx", "not_here"]
    assert "set of vector instructions" in str(problem(of(proof, "c", vectors=vectors)))
    assert problem(of(proof, "d")) is None


def test_one_that_runs_the_code_of_before_is_to_be_started_again(
    proof: Proof, monkeypatch: pytest.MonkeyPatch
):
    assert problem(proof) is None
    changed = {**proof.code, "code": {**proof.code["code"], "graftline/data/resize.py": "new"}}
    monkeypatch.setattr(worker, "code_of", lambda _step: changed)
    told = str(problem(of(proof, code=changed["code"])))
    assert "was started before graftline/data/resize.py was changed; start it again" in told


def test_images_that_a_worker_does_not_see_are_not_taken_for_broken(tmp_path: Path):
    refuse_unseen([tmp_path])
    with pytest.raises(ClusterError, match="does not see"):
        refuse_unseen([tmp_path, tmp_path / "elsewhere"])
