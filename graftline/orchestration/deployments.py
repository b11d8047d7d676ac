"""Applies ``prefect.yaml``: makes its work pools, and applies its deployments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from graftline.core.errors import GraftlineError, ParamsError
from graftline.core.silence import ended
from graftline.core.startup import module_command
from graftline.core.workspace import Workspace

FILE = "prefect.yaml"
_POOL_TYPE = "process"
_TAIL_LINES = 15


@dataclass(frozen=True)
class Deployment:
    """One entry of ``prefect.yaml``.

    Args:
        record: The entry as it stands there.
    """

    record: dict[str, Any]

    @property
    def name(self) -> str:
        """Its own name, without its flow's."""
        return str(self.record["name"])

    @property
    def pool(self) -> str | None:
        """The work pool that its runs go to."""
        name = (self.record.get("work_pool") or {}).get("name")
        return str(name) if name else None

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
        entries = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))["deployments"]
        found = [Deployment(dict(entry)) for entry in entries]
        if all(isinstance(one.record["name"], str) for one in found):
            return found
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError, ValueError) as error:
        raise _unusable(path, f": {error}") from error
    raise _unusable(path, "")


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
    said = ended(
        module_command("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", FILE),
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
