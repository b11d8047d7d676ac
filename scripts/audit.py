"""Asks a database of known vulnerabilities for every locked package: ``make audit``.

The work is that of pip-audit, which asks OSV by name and version. Exit codes:

    0  nothing is known against the locked packages, or only what scripts/audit.toml answers for
    0  the database could not be reached; the last line then says NOT CHECKED (3 with --strict)
    1  something is known that nobody has answered for
    2  scripts/audit.toml is not as it must be, or pip-audit failed
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from graftline.core.redaction import without_secrets

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
ANSWERS = ROOT / "scripts" / "audit.toml"
DATABASE = "https://api.osv.dev/v1/query"
NOT_CHECKED = "audit: NOT CHECKED: the database of known vulnerabilities cannot be reached"
FOUND, WRONG, UNCHECKED = 1, 2, 3
_PROBE_S = 10
_LIMIT_S = 1800
_SHORTEST_REASON = 20


class AuditError(Exception):
    """The answers are not as they must be, or pip-audit failed."""


@dataclass(frozen=True)
class Answer:
    """Why a known vulnerability is lived with, and until when."""

    id: str
    package: str
    reason: str
    until: datetime.date


@dataclass(frozen=True)
class Finding:
    """A known vulnerability of a locked package."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]
    summary: str

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fix is known"
        return f"{self.package} {self.version}: {', '.join(self.ids)} ({fixed}): {self.summary}"


def main(arguments: Sequence[str]) -> int:
    """Audits the lock and says what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.audit", description=(__doc__ or "").replace("``", "")
    )
    parser.add_argument("--lock", type=Path, default=LOCK, help="another lock with hashes")
    parser.add_argument("--answers", type=Path, default=ANSWERS, help="another scripts/audit.toml")
    parser.add_argument("--database", default=DATABASE, help="another OSV address")
    parser.add_argument("--strict", action="store_true", help="exit code 3 if it cannot be asked")
    options = parser.parse_args(arguments)
    try:
        answers = read_answers(options.answers)
        problem = unreachable(options.database)
        if problem is not None:
            print(f"{NOT_CHECKED} ({problem}); known holes in the locked packages may be open")
            return UNCHECKED if options.strict else 0
        lines, code = judged(
            findings(asked(options.lock, options.database)), answers, datetime.date.today()
        )
    except AuditError as error:
        print(f"audit: {error}")
        return WRONG
    print("\n".join(lines))
    return code


def read_answers(path: Path) -> list[Answer]:
    """Reads what is answered for.

    Raises:
        AuditError: If an answer lacks its package, its reason or its end.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
        answers = [Answer(**one) for one in record.get("answer", [])]
    except (OSError, TypeError, tomllib.TOMLDecodeError) as error:
        raise AuditError(f"{path} cannot be read: {error}") from error
    for answer in answers:
        if len(answer.reason.split()) < 3 or len(answer.reason) < _SHORTEST_REASON:
            raise AuditError(f"{path}: {answer.id} needs a reason that others can weigh")
        if type(answer.until) is not datetime.date:
            raise AuditError(f"{path}: {answer.id} needs a day, as in until = 2030-01-31")
    return answers


def unreachable(database: str) -> str | None:
    """Why the database cannot be asked, or None."""
    query: Any = {"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "0"}
    try:
        answer = requests.post(database, json=query, timeout=_PROBE_S)
        answer.raise_for_status()
        answer.json()
    except (requests.RequestException, ValueError) as error:
        if isinstance(error, requests.HTTPError) and error.response is not None:
            return f"it answered {error.response.status_code}"
        return type(error).__name__
    return None


def asked(lock: Path, database: str) -> dict[str, Any]:
    """pip-audit's report on a lock.

    Raises:
        AuditError: If it ends without one.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock)]
    command += ["--require-hashes", "--disable-pip", "--no-deps", "--format", "json"]
    command += ["--vulnerability-service", "osv", "--osv-url", database]
    command += ["--progress-spinner", "off"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_LIMIT_S, check=False, cwd=ROOT
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise AuditError(f"pip-audit ended with {done.returncode}:\n{last}") from error
    return report


def findings(report: dict[str, Any]) -> list[Finding]:
    """What pip-audit reports, package by package.

    Raises:
        AuditError: If it left packages out; silence about them is no good news.
    """
    left_out = [one["name"] for one in report["dependencies"] if "skip_reason" in one]
    if left_out:
        raise AuditError(f"pip-audit has not asked about {', '.join(left_out)}")
    return [
        Finding(
            package=one["name"],
            version=one["version"],
            ids=(known["id"], *known["aliases"]),
            fixed_in=tuple(known["fix_versions"]),
            summary=known["description"][:200],
        )
        for one in report["dependencies"]
        for known in one["vulns"]
    ]


def judged(
    found: Sequence[Finding], answers: Sequence[Answer], today: datetime.date
) -> tuple[list[str], int]:
    """What is to be said of the findings, and the exit code."""
    lines, open_ones, used = [], 0, set[str]()
    for finding in found:
        answer = next(
            (one for one in answers if one.id in finding.ids and one.package == finding.package),
            None,
        )
        if answer is not None:
            used.add(answer.id)
        if answer is not None and today <= answer.until:
            lines.append(f"audit: lived with until {answer.until}: {finding}")
            lines.append(f"       {answer.reason}")
        else:
            open_ones += 1
            late = f" (the answer ended on {answer.until})" if answer else ""
            lines.append(f"audit: OPEN{late}: {finding}")
    for one in answers:
        if one.id not in used:
            lines.append(f"audit: nothing is known as {one.id} any more; remove its answer")
    if open_ones:
        lines.append(
            f"audit: {open_ones} known, and nobody has answered for it; raise the version in "
            "pyproject.toml and make lock, or answer for it in scripts/audit.toml"
        )
    else:
        lines.append(f"audit: checked; nothing is open ({len(found)} lived with)")
    return [without_secrets(line) for line in lines], FOUND if open_ones else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
