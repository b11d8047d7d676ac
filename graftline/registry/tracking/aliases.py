"""The alias ``champion``: who may move it, and the receipts of its moves."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from graftline.core.environment import patience_s
from graftline.core.errors import PipelineBusyError, TrackingError
from graftline.core.workspace import Workspace
from graftline.registry.tracking.store import configure, open_client, reported
from graftline.registry.tracking.versions import ABSENT, Version

CHAMPION = "champion"
_WAIT_S = 900.0


@contextmanager
def champion_lock(workspace: Workspace, wait_s: float = _WAIT_S) -> Iterator[None]:
    """Holds the right to move the alias, from comparing on until the receipt is written.

    The lock is this machine's, and dies with its holder; :func:`move_champion` looks once more
    for what another machine may have done in a shared registry.

    Raises:
        PipelineBusyError: If another process holds it for longer than ``wait_s`` seconds.
    """
    path = configure(workspace).root / "champion.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=wait_s):
            yield
    except Timeout as error:
        raise PipelineBusyError(
            f"another process has been deciding on the champion for {wait_s:g} s",
            where=str(path),
            fix="wait until it has ended, or stop it",
        ) from error


def move_champion(
    workspace: Workspace, name: str, *, expected: str | None, version: str | None
) -> None:
    """Points the alias at a version, if it still is where it was when that was decided.

    Args:
        workspace: Whose registry is used.
        name: The registered model.
        expected: The version that has the alias; None if none has.
        version: The version that gets it; None takes it away.

    Raises:
        TrackingError: If somebody else has moved it, or the registry cannot be used.
    """
    from mlflow.exceptions import MlflowException

    client, _ = open_client(configure(workspace))
    with reported(configure(workspace)):
        try:
            present = str(client.get_model_version_by_alias(name, CHAMPION).version)
        except MlflowException as error:
            if error.error_code not in ABSENT:
                raise
            present = None
        if present != expected:
            raise TrackingError(
                f"the champion of {name} is now {_told(present)}, and was {_told(expected)} when "
                "this was decided",
                where=configure(workspace).shown,
                fix="run it again: it will be compared with the new champion",
            )
        if version is None:
            client.delete_registered_model_alias(name, CHAMPION)
        else:
            client.set_registered_model_alias(name, CHAMPION, version)


def tag_version(workspace: Workspace, version: Version, tags: Mapping[str, str | None]) -> None:
    """Writes tags of a version, in their order; None takes one away.

    Raises:
        TrackingError: If the registry cannot be used.
    """
    client, _ = open_client(configure(workspace))
    with reported(configure(workspace)):
        for key, value in tags.items():
            if value is not None:
                client.set_model_version_tag(version.name, version.version, key, value)
            elif key in version.tags:
                client.delete_model_version_tag(version.name, version.version, key)


def log_receipt(
    workspace: Workspace,
    run_id: str,
    files: Sequence[Path],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> None:
    """Leaves a receipt with a run: files in its folder ``promotion``, metrics, tags.

    Raises:
        TrackingError: If the store cannot be used, or has no such run.
    """
    from mlflow.entities import Metric, RunTag

    client, _ = open_client(configure(workspace), patience_s(), files=True)
    now_ms = int(time.time() * 1000)
    with reported(configure(workspace)):
        for path in files:
            client.log_artifact(run_id, str(path), "promotion")
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, now_ms, 0) for name, value in metrics.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )


def log_file(workspace: Workspace, run_id: str, path: Path, folder: str) -> None:
    """Leaves a file with a run, in a folder of it.

    Raises:
        TrackingError: If the store cannot be used, or has no such run.
    """
    client, _ = open_client(configure(workspace), patience_s(), files=True)
    with reported(configure(workspace)):
        client.log_artifact(run_id, str(path), folder)


def fetch_from_run(
    workspace: Workspace, run_id: str, path: str, folder: Path, weight_digest: str | None = None
) -> Path | None:
    """A file that a run carries, copied into a folder.

    Args:
        workspace: Whose store is asked.
        run_id: The run.
        path: Of the file, within the run.
        folder: Where it is put.
        weight_digest: If given, only a run that ended with these weights is believed.

    Returns:
        Where it lies now; None if there is no such run or file.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    store = configure(workspace)
    client, _ = open_client(store)
    with reported(store):
        try:
            tags = client.get_run(run_id).data.tags
            if weight_digest not in (None, tags.get("graftline.weight_digest")):
                return None
            return Path(
                download_artifacts(
                    run_id=run_id, artifact_path=path, dst_path=str(folder), tracking_uri=store.uri
                )
            )
        except (MlflowException, OSError):
            return None


def _told(version: str | None) -> str:
    return "nobody" if version is None else f"version {version}"
