"""The versions that this checkout has registered, with their digests, outside of the registry.

A registry may be changed by anybody who can write to it, and then its digests fit its files. So
versions that are registered here are noted in ``var/mlflow/registered.json`` too, and that file is
believed before the registry.

The registry below ``var/`` is this checkout's alone: a version that is not noted is refused. In a
registry that others share, their versions are not noted here; of those its tags are believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from graftline.core.errors import MissingOutputError
from graftline.core.files import write_text
from graftline.registry.tracking.store import Store
from graftline.registry.tracking.versions import DIGEST_TAGS, Version, as_version

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_FILE = "registered.json"
_OWN = "var/mlflow"
"""What the registry below ``var/`` is called here, wherever the checkout lies."""
# By registry, registered model and version: the digests, as the version's tags have them.
Noted = dict[str, dict[str, dict[str, dict[str, str]]]]
_NOTED = TypeAdapter(Noted)


def note_version(
    store: Store,
    client: MlflowClient,
    version: Version,
    digests: Mapping[str, str],
    *,
    created: bool,
) -> None:
    """Notes what has been registered.

    Args:
        store: Whose registry it is.
        client: Of that.
        version: What was registered.
        digests: Of the files that were, by their tags.
        created: Whether it was just now. Of one that was there already, what is noted stays.
    """
    with _locked(store):
        noted = _noted(store, client)
        versions = noted.setdefault(_registry(store), {}).setdefault(version.name, {})
        if created or version.version not in versions:
            versions[version.version] = dict(digests)
            _write(store, noted)


def confirmed(store: Store, client: MlflowClient, version: Version) -> Version:
    """The version with the digests that were noted when it was registered here.

    Raises:
        MissingOutputError: If it lies in the registry below ``var/`` and was not registered here.
    """
    with _locked(store):
        noted = _noted(store, client)
    digests = noted.get(_registry(store), {}).get(version.name, {}).get(version.version)
    if digests is not None:
        others = {name: text for name, text in version.tags.items() if name not in DIGEST_TAGS}
        return replace(version, tags=others | digests)
    if store.database is None:
        return version
    raise MissingOutputError(
        f"{version.name} version {version.version} was not registered by this checkout",
        where=f"{store.root / _FILE}: no such version; {store.shown}",
        allowed="a version that a run of this checkout has registered",
        fix="register the model here: python -m flows.train; or, if you trust all that the "
        f"registry has, rm {store.root / _FILE}: it is then noted anew",
    )


def _noted(store: Store, client: MlflowClient) -> Noted:
    path = store.root / _FILE
    try:
        return _NOTED.validate_json(path.read_bytes())
    except FileNotFoundError:
        noted = _what_there_is(store, client)
        _write(store, noted)
        return noted
    except ValidationError as error:
        raise MissingOutputError(
            f"{path} is not what Graftline writes",
            where=str(path),
            fix="put it back from a backup; or, if you trust all that the registry has, "
            f"rm {path}: it is then noted anew",
        ) from error


def _what_there_is(store: Store, client: MlflowClient) -> Noted:
    """All of the own registry, as it was before anything was noted; nothing of a shared one."""
    noted: Noted = {}
    if store.database is None:
        return noted
    token = None
    while True:
        page = client.search_model_versions(page_token=token)
        for version in map(as_version, page):
            of_name = noted.setdefault(_registry(store), {}).setdefault(version.name, {})
            of_name[version.version] = _digests(version.tags)
        if not (token := page.token):
            return noted


def _digests(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: tags[name] for name in DIGEST_TAGS if name in tags}


def _registry(store: Store) -> str:
    return store.shown if store.database is None else _OWN


def _write(store: Store, noted: Noted) -> None:
    write_text(store.root / _FILE, _NOTED.dump_json(noted, indent=1).decode() + "\n")


@contextmanager
def _locked(store: Store) -> Iterator[None]:
    store.root.mkdir(parents=True, exist_ok=True)
    with FileLock(store.root / f"{_FILE}.lock"):
        yield
