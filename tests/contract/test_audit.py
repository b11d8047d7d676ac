"""``make audit``: real findings fail, answered ones do not, and an absent database is said."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from scripts import audit

TODAY = datetime.date(2030, 1, 15)
HOLE = audit.Finding("somepackage", "1.0", ("PYSEC-1", "CVE-1"), ("1.1",), "a hole")
REASON = "Only its server is affected, which nothing here starts."
LOCK = "somepackage==1.0 --hash=sha256:" + "0" * 64 + "\nother==2.0 --hash=sha256:" + "1" * 64
KNOWN = {
    "vulns": [
        {
            "id": "PYSEC-1",
            "aliases": ["CVE-1"],
            "summary": "a hole",
            "affected": [{"package": {"name": "somepackage", "ecosystem": "PyPI"}}],
        }
    ]
}


def answer(until: datetime.date) -> audit.Answer:
    return audit.Answer("CVE-1", "somepackage", REASON, until)


def test_a_finding_fails() -> None:
    lines, code = audit.judged([HOLE], [], TODAY)
    assert code == audit.FOUND
    assert "OPEN: somepackage 1.0: PYSEC-1, CVE-1 (fixed in 1.1): a hole" in lines[0]


def test_an_answered_finding_is_told_with_its_reason() -> None:
    lines, code = audit.judged([HOLE], [answer(TODAY)], TODAY)
    assert code == 0
    assert REASON in "\n".join(lines)
    assert lines[-1] == "audit: checked; nothing is open (1 lived with)"


def test_an_answer_ends_on_its_last_day() -> None:
    lines, code = audit.judged([HOLE], [answer(TODAY - datetime.timedelta(1))], TODAY)
    assert code == audit.FOUND
    assert "OPEN (the answer ended on 2030-01-14)" in lines[0]


def test_an_answer_for_another_package_does_not_count() -> None:
    other = audit.Answer("CVE-1", "other", REASON, TODAY)
    lines, code = audit.judged([HOLE], [other], TODAY)
    assert code == audit.FOUND
    assert "audit: nothing is known as CVE-1 any more; remove its answer" in lines


def test_packages_that_were_not_asked_about_are_no_good_news() -> None:
    report = {"dependencies": [{"name": "odd", "skip_reason": "not found"}]}
    with pytest.raises(audit.AuditError, match="has not asked about odd"):
        audit.findings(report)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[answer]]\nid = 'x'\npackage = 'y'\nuntil = 2030-01-01\nreason = 'no'", "a reason"),
        ("[[answer]]\nid = 'x'\npackage = 'y'", "cannot be read"),
        (f"[[answer]]\nid='x'\npackage='y'\nreason='{REASON}'\nuntil='soon'", "needs a day"),
        ("[[", "cannot be read"),
    ],
)
def test_answers_that_answer_nothing(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "audit.toml").write_text(text)
    with pytest.raises(audit.AuditError, match=words):
        audit.read_answers(tmp_path / "audit.toml")


def test_the_committed_answers_are_as_they_must_be() -> None:
    audit.read_answers(audit.ANSWERS)


def test_an_absent_database_is_said_and_nothing_passes_in_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nobody = "http://127.0.0.1:9/v1/query"
    assert audit.main(["--database", nobody]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("audit: NOT CHECKED: the database of known vulnerabilities cannot be")
    assert audit.main(["--database", nobody, "--strict"]) == audit.UNCHECKED


def test_ci_ends_with_the_audit() -> None:
    lines = (audit.ROOT / ".ci" / "run").read_text().split("\n")
    assert [line for line in lines if line][-1].endswith("make audit")


class Database(BaseHTTPRequestHandler):
    """Knows of one hole in one package."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = KNOWN if query["package"]["name"] == "somepackage" else {}
        body = json.dumps(known).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def database() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Database) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


@pytest.mark.slow
def test_the_real_pip_audit_finds_what_a_database_knows(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock, answers = tmp_path / "some.lock", tmp_path / "audit.toml"
    lock.write_text(LOCK)
    answers.write_text("")
    options = ["--lock", str(lock), "--answers", str(answers), "--database", database]
    assert audit.main(options) == audit.FOUND
    assert "OPEN: somepackage 1.0: PYSEC-1, CVE-1" in capsys.readouterr().out
    until = datetime.date.today()
    answers.write_text(
        f"[[answer]]\nid='CVE-1'\npackage='somepackage'\nreason='{REASON}'\nuntil={until}"
    )
    assert audit.main(options) == 0
    assert "audit: lived with until" in capsys.readouterr().out


@pytest.mark.slow
def test_the_real_pip_audit_reads_the_whole_lock(database: str) -> None:
    report = audit.asked(audit.LOCK, database)
    assert len(report["dependencies"]) > 100
    assert audit.findings(report) == []
