"""The automation between a changed source and the retraining: made once, kept up to date."""

from __future__ import annotations

import os
from datetime import timedelta

from graftline.core.environment import prefect_address
from graftline.core.errors import ServerError
from graftline.core.workspace import Workspace
from graftline.operations.names_on_servers import name_on_servers, with_project
from graftline.operations.servers import address, client_environment, prefect_server
from graftline.orchestration.api_health import check_answers

EVENT = "graftline.source.changed"
"""What the flow ``watch`` emits when a source has changed."""
CHECKOUT_LABEL = "graftline.checkout"
"""The label of that event that says whose source it is."""
RETRAINS = "nightly"
"""The deployment of ``prefect.yaml`` that is run, unless another one is named."""


def deployment_of(workspace: Workspace) -> str:
    """The full name of the deployment that is run, unless another one is named."""
    return f"retrain/{with_project(RETRAINS, name_on_servers(workspace))}"


def ensure_trigger(workspace: Workspace, deployment: str) -> str:
    """Has the deployment run whenever the flow ``watch`` of this checkout announces a change.

    Args:
        workspace: The checkout; other ones on the same server have automations of their own.
        deployment: FLOW/NAME of what is to run.

    Returns:
        The automation's name.

    Raises:
        ServerError: If there is no such deployment.
    """
    from prefect.automations import AutomationCore, EventTrigger, Posture, RunDeployment
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    name = _name(workspace)
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except ObjectNotFound as error:
            raise ServerError(
                f"there is no deployment {deployment} that a changed source could run",
                fix="run graftline up, or name another one with --deployment FLOW/NAME",
            ) from error
        wanted = AutomationCore(
            name=name,
            description=f"Runs {deployment} when the source of {workspace.root} has changed.",
            trigger=EventTrigger(
                expect={EVENT},
                match={CHECKOUT_LABEL: str(workspace.root)},
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=[
                RunDeployment(
                    source="selected", deployment_id=found.id, parameters=None, job_variables=None
                )
            ],
        )
        present = client.read_automations_by_name(name)
        if present:
            client.update_automation(present[0].id, wanted)
            for double in present[1:]:
                client.delete_automation(double.id)
        else:
            client.create_automation(wanted)
    return name


def remove_trigger(workspace: Workspace) -> bool:
    """Takes the automation of this checkout away; returns whether there was one."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        present = client.read_automations_by_name(_name(workspace))
        for one in present:
            client.delete_automation(one.id)
    return bool(present)


def _name(workspace: Workspace) -> str:
    return f"retrain when the source of {workspace.root} has changed"


def reach_server(workspace: Workspace) -> None:
    """Has this process speak to the server that automations live in.

    Raises:
        ServerError: If there is none, or it does not answer.
    """
    os.environ.update(known := _api(workspace))
    check_answers(known["PREFECT_API_URL"])


def _api(workspace: Workspace) -> dict[str, str]:
    chosen = prefect_address(os.environ, workspace.root)
    if chosen is not None:
        return {"PREFECT_API_URL": chosen}
    server = prefect_server(workspace)
    own = address(server)
    if own is None:
        raise ServerError(
            "no Prefect server runs here, and an automation lives in one",
            fix="run graftline up, or name a server by PREFECT_API_URL",
        )
    return client_environment(server, own)
