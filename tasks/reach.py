"""Whether a Prefect API answers, asked once and without an ephemeral server in its place."""

from __future__ import annotations

from graftline.addresses import without_secrets
from graftline.errors import ServerError


def check_answers(address: str) -> None:
    """Makes sure that the API of Prefect's settings answers.

    Args:
        address: The same, for the message.

    Raises:
        ServerError: If it does not.
    """
    # Prefect itself would try for long, and then speak of an ephemeral server.
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise ServerError(
            "the Prefect API that was chosen does not answer: "
            + without_secrets(f"{type(problem).__name__}: {problem}"),
            where=without_secrets(address),
            fix="start that server, or unset PREFECT_API_URL (in the environment and in the "
            "profile) to have one started here",
        )
