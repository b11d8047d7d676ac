"""A flow of three tasks and a run of MLflow, for the pages to show."""

from __future__ import annotations

import os

import mlflow
from prefect import flow, task


@task
def load() -> int:
    """The first task."""
    return 5


@task
def train(images: int) -> int:
    """Logs a run as training does: parameters, a curve, a picture."""
    mlflow.set_experiment("graftline")
    with mlflow.start_run(run_name="toy run") as run:
        mlflow.log_param("train.learning_rate", 0.001)
        for epoch in range(1, 6):
            mlflow.log_metric("loss", 1 / epoch, step=epoch)
        mlflow.log_artifact(os.environ["TOY_PICTURE"], "evaluation")
        source = mlflow.get_artifact_uri("evaluation")
    client = mlflow.MlflowClient()
    client.create_registered_model("toy")
    for number, alias in ((1, "champion"), (2, "challenger")):
        client.create_model_version("toy", source, run_id=run.info.run_id)
        client.set_registered_model_alias("toy", alias, str(number))
    return images


@task
def evaluate(images: int) -> int:
    """The last task."""
    return images


@flow(name="toy")
def toy() -> None:
    """The three in a row."""
    evaluate(train(load()))


if __name__ == "__main__":
    toy()
