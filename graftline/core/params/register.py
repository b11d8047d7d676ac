"""The section ``register``: the model's name in the registry."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from graftline.core.params.fields import Section


class RegisterParams(Section):
    """Where the model goes."""

    model_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")] = (
        Field(default="graftline", description="The registered model's name in MLflow.")
    )
