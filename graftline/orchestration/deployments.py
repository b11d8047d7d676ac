"""Applies ``prefect.yaml``: makes its work pools, and applies its deployments.

The names of both get the project's behind them, as in ``nightly-digits-3f9a2c``: several projects
may share a server.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from graftline.core.errors import GraftlineError, ParamsError
from graftline.core.files import write_text
from graftline.core.silence import ended
from graftline.core.startup import module_command
from graftline.core.workspace import Workspace
from graftline.operations.names_on_servers import name_on_servers, with_project

FILE = "prefect.yaml"
APPLIED = "var/prefect.yaml"
"""The same with the names as the server knows them."""
_POOL_TYPE = "process"
_TAIL_LINES = 15


@dataclass(frozen=True)
class Deployment:
    """One entry of ``prefect.yaml``.

    Args:
        record: The entry as it stands there.
        project: The project's name.
    """

    record: dict[str, Any]
    project: str

    @property
    def written(self) -> str:
        """Its name as it stands in the file."""
        return str(self.record["name"])

    @property
    def name(self) -> str:
        """Its name on the server, without its flow's."""
        return with_project(self.written, self.project)

    @property
    def flow(self) -> str:
        """Its flow's name, as the entrypoint tells it."""
        return str(self.record.get("entrypoint", "")).rpartition(".")[2].rpartition(":")[2]

    @property
    def written_pool(self) -> str | None:
        """The work pool that its runs go to, as it stands in the file."""
        name = (self.record.get("work_pool") or {}).get("name")
        return str(name) if name else None

    @property
    def pool(self) -> str | None:
        """The work pool's name on the server."""
        return with_project(self.written_pool, self.project) if self.written_pool else None

    @property
    def applied(self) -> dict[str, Any]:
        """The entry with the names of the server."""
        pool = {"work_pool": self.record["work_pool"] | {"name": self.pool}} if self.pool else {}
        return self.record | {"name": self.name} | pool

    @property
    def crons(self) -> tuple[str, ...]:
        """When it runs."""
        return tuple(
            str(one["cron"]) for one in self.record.get("schedules") or () if "cron" in one
        )

    @property
    def environment(self) -> dict[str, str]:
        """What its runs find in their environment."""
        variables = (self.record.get("work_pool") or {}).get("job_variables") or {}
        return {str(name): str(value) for name, value in (variables.get("env") or {}).items()}


def deployments(workspace: Workspace) -> list[Deployment]:
    """The deployments of ``prefect.yaml``.

    Raises:
        ParamsError: If the file is absent or is not what it should be.
    """
    path = workspace.root / FILE
    try:
        entries = [dict(entry) for entry in _record(path)["deployments"]]
        if all(isinstance(entry["name"], str) for entry in entries):
            project = name_on_servers(workspace)
            return [Deployment(entry, project) for entry in entries]
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError, ValueError) as error:
        raise _unusable(path, f": {error}") from error
    raise _unusable(path, "")


def _record(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def _unusable(path: object, reason: str) -> ParamsError:
    return ParamsError(
        f"{FILE} does not list deployments{reason}",
        where=str(path),
        allowed="a list under deployments, each entry with a name",
        fix="mend it, or: git checkout prefect.yaml",
    )


def ensure_pools(workspace: Workspace) -> None:
    """Makes the pools that the deployments name, as process pools; those that exist stay."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        for pool in pools(workspace):
            try:
                client.create_work_pool(
                    WorkPoolCreate(
                        name=pool,
                        type=_POOL_TYPE,
                        base_job_template=ProcessWorker.get_default_base_job_template(),
                    )
                )
            except ObjectAlreadyExists:
                continue


def pools(workspace: Workspace) -> list[str]:
    """The pools that the deployments name, each once."""
    return list(dict.fromkeys(one.pool for one in deployments(workspace) if one.pool))


def apply_all(workspace: Workspace, api_address: str) -> None:
    """Has Prefect's own command make the deployments, or bring them up to date.

    Raises:
        GraftlineError: If it fails; the message is the end of what it said.
        StalledError: If it gives no sign of life for long.
    """
    record = _record(workspace.root / FILE)
    record["deployments"] = [one.applied for one in deployments(workspace)]
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump(record, text)
    write_text(workspace.root / APPLIED, text.getvalue())
    said = ended(
        module_command("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", APPLIED),
        cwd=workspace.root,
        # prefect.yaml names the working directory of the runs by it.
        environment=os.environ | {"PREFECT_API_URL": api_address, "PWD": str(workspace.root)},
    )
    if said.returncode:
        lines = [line for line in (said.stdout + said.stderr).splitlines() if line.strip()]
        raise GraftlineError(
            "Prefect did not take the deployments:\n" + "\n".join(lines[-_TAIL_LINES:]),
            where=str(workspace.root / FILE),
            fix=f"mend {FILE}, and run graftline up again",
        )


def without_project(workspace: Workspace, *, own_server: bool) -> Iterator[str]:
    """What stands on the server under names that do not carry the project's, as once was usual.

    Args:
        workspace: The checkout.
        own_server: Whether the server is this checkout's alone. Then it is removed; on a server
            that others use it may be theirs.

    Yields:
        A sentence on each.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for one in deployments(workspace):
            name = f"{one.flow}/{one.written}"
            if one.name == one.written:
                continue
            try:
                found = client.read_deployment_by_name(name)
            except ObjectNotFound:
                continue
            if own_server:
                client.delete_deployment(found.id)
                yield f"{name} is {one.name} now; the former one was removed"
            else:
                yield (
                    f"{name} is there still, from before names carried the project's; if it is "
                    f"yours: prefect deployment delete {name}"
                )
        for pool in dict.fromkeys(one.written_pool for one in deployments(workspace)):
            if own_server and pool and pool not in pools(workspace):
                try:
                    client.delete_work_pool(pool)
                except ObjectNotFound:
                    continue
                yield f"pool {pool}: removed"
