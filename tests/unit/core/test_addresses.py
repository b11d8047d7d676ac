"""Names and passwords in addresses show nowhere, whatever signs they are made of."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from graftline.core.errors import GraftlineError, ParamsError, TrackingError, error_from_json
from graftline.core.exit_codes import reported
from graftline.core.params import BackboneParams, NotifyParams
from graftline.core.redaction import is_misread, names_a_user, without_secrets
from graftline.core.workspace import Workspace
from graftline.registry import tracking
from graftline.registry.tracking import configure

VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
SCHEMES = ("http", "https", "postgresql", "postgresql+psycopg", "mysql+pymysql", "redis", "s3")
NASTY = (
    "p/w",
    "p#w",
    "p@w",
    "p?w",
    "p:w",
    "/",
    "@",
    "#",
    "12/w",
    "0#",
    "://",
    "%",
    "ü",
    "p\"w'",
    "&",
)
unbroken = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=20
) | st.sampled_from(NASTY)
anything = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20
) | st.sampled_from((*NASTY, "a b", "a b@c", "line\nbreak"))


@given(st.sampled_from(SCHEMES), unbroken)
def test_a_password_in_a_text_is_hidden_with_the_name_before_it(scheme: str, password: str) -> None:
    text = f"cannot reach {scheme}://ann:{password}@db.example:5432/x, said the driver"
    shown = without_secrets(text)
    assert shown == f"cannot reach {scheme}://***@db.example:5432/x, said the driver"


@given(anything)
def test_one_in_the_environment_is_hidden_with_blanks_too(password: str) -> None:
    address = f"postgresql://ann:{password}@db.example/x"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        shown = without_secrets(f"cannot reach {address}, said the driver")
    assert shown == "cannot reach postgresql://***@db.example/x, said the driver"


@given(unbroken)
def test_a_password_that_is_written_as_it_should_be_is_read_and_hidden(password: str) -> None:
    written = quote(password, safe="")
    for scheme in ("https", "postgresql", "mysql+pymysql"):
        address = f"{scheme}://ann:{written}@db.example:5432/x"
        assert not is_misread(address)
        assert without_secrets(address) == f"{scheme}://***@db.example:5432/x"
    assert make_url(f"postgresql://ann:{written}@db.example/x").password == password


@given(st.sampled_from(("https", "postgresql")), unbroken)
def test_one_that_is_not_is_read_as_it_is_meant_or_refused(scheme: str, password: str) -> None:
    address = f"{scheme}://ann:{password}@db.example:5432/x"
    if is_misread(address):
        return
    from urllib.parse import urlsplit

    read = urlsplit(address) if scheme == "https" else make_url(address)
    host = read.hostname if scheme == "https" else read.host  # type: ignore[union-attr]
    assert (host, read.username, read.port) == ("db.example", "ann", 5432)


@pytest.mark.parametrize(
    ("address", "misread"),
    [
        # SQLAlchemy takes these two as they are; a web address ends its host there.
        ("postgresql://ann:p/w@db/x", False),
        ("postgresql://ann:p#w@db/x", False),
        ("http://ann:p/w@host/x", True),
        ("http://ann:12/w@host/x", True),
        ("http://ann:p#w@host/x", True),
        ("postgresql://ann:p@w@db/x", True),
        ("postgresql://a/n:p@db/x", True),
        ("postgresql://db:port/x", True),
        ("http://:5000", True),
        ("http://127.0.0.1:5000", False),
        ("http://[::1]:5000", False),
        ("https://token@host", False),
        ("postgresql://db/x?user=ann", False),
        ("sqlite:////home/a:b/c@d.db", False),
        ("databricks", False),
        ("", False),
    ],
)
def test_what_is_misread(address: str, misread: bool) -> None:
    assert is_misread(address) is misread


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:p/w@host/x", "http://***@host/x"),
        ("http://ann:12/w@host/x", "http://***@host/x"),
        ("redis://:p#w@host", "redis://***@host"),
        ("postgresql://h/x?password=a#b&sslmode=on", "postgresql://h/x?password=***&sslmode=on"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dp", "mssql+pyodbc:///?odbc_connect=***"),
        ("at http://127.0.0.1:4200/api, ask me@home", "at http://127.0.0.1:4200/api, ask me@home"),
        ("sqlite:////home/a:b/c@d.db", "sqlite:////home/a:b/c@d.db"),
        ("file:///home/a:b/c@d", "file:///home/a:b/c@d"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("password", ["canary/w", "canary#w", "can@ary", "12/canary"])
def test_a_store_whose_address_cannot_be_read_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, password: str
) -> None:
    monkeypatch.setenv(variable, f"http://ann:{password}@127.0.0.1:9/")
    if password == "can@ary":  # a web address goes as far as the last @
        assert configure(Workspace(tmp_path)).shown
        return
    with pytest.raises(TrackingError) as caught:
        configure(Workspace(tmp_path))
    assert caught.value.exit_code == 2
    assert caught.value.where == f"{variable}: http://***@127.0.0.1:9/"
    assert "%2F for /" in str(caught.value.allowed)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("password", ["canary/w", "canary#w", "canary?w", "%63anary%40w"])
@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+nodriver"])
def test_a_database_that_sqlalchemy_can_read_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, password: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://ann:{password}@127.0.0.1:9/x")
    with pytest.raises(TrackingError) as caught:
        tracking.all_versions(Workspace(tmp_path), "graftline")
    assert caught.value.exit_code == 2
    assert caught.value.where == f"MLFLOW_TRACKING_URI: {scheme}://***@127.0.0.1:9/x"
    assert "127.0.0.1:9" in caught.value.what
    assert "canary" not in str(caught.value)


def test_every_error_is_without_them_wherever_it_goes() -> None:
    address = "postgresql://ann:canary/w@db/x"
    error = GraftlineError(address, where=address, allowed=address, fix=address)
    for text in (str(error), repr(error), error.to_json(), str(error_from_json(error.to_json()))):
        assert "canary" not in text
        assert "postgresql://***@db/x" in text


@pytest.mark.parametrize("kind", [ValueError, TrackingError])
def test_tracebacks_are_without_them(
    capsys: pytest.CaptureFixture[str], kind: type[Exception]
) -> None:
    def fails() -> int:
        try:
            raise ValueError("at postgresql://ann:canary/w@db/x")
        except ValueError as error:
            raise kind("failed at http://ann:canary#w@db/x") from error

    assert reported(fails, debug=True) in (1, 2)
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "canary" not in said
    assert "postgresql://***@db/x" in said


@pytest.mark.parametrize("password", ["w", "p/w", "p#w", "p@w", "12/w"])
def test_parameters_take_no_address_with_a_password(password: str) -> None:
    address = f"https://ann:{password}@host/weights.h5"
    assert names_a_user(address)
    with pytest.raises(ValueError, match="holds a name or a password"):
        BackboneParams(weights=address, weights_sha256="0" * 64)
    with pytest.raises(ValueError, match="holds what may be a secret"):
        NotifyParams(webhook=address)


def test_the_parameters_error_does_not_repeat_it(tmp_path: Path) -> None:
    from graftline.core.params import read_params

    path = tmp_path / "params.yaml"
    path.write_text(
        f"backbone: {{weights: 'https://ann:can/ary@h/a.h5', weights_sha256: {'0' * 64}}}"
    )
    with pytest.raises(ParamsError) as caught:
        read_params(path)
    assert "can/ary" not in str(caught.value)
