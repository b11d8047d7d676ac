"""The main flow, from labelled images to a champion in the registry: one call per step.

python -m flows.train --set train.epochs=3
"""

# ruff: noqa: E402
from __future__ import annotations

import sys

from graftline.core.environment import begin_plainly
from graftline.orchestration.launch import call_train, launch

if __name__ == "__main__":
    begin_plainly()
    # Before Prefect is imported, which takes seconds in which its server can already start.
    sys.exit(launch("flows.train", "train", sys.argv[1:]))

from graftline.core.params import Params
from graftline.orchestration import naming
from graftline.orchestration.pipeline import opened
from graftline.orchestration.project_flow import project_flow
from graftline.registry.promotions import Promotion
from tasks.assemble import assemble
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.extract import extract
from tasks.freeze import freeze
from tasks.load import load
from tasks.notify import notify
from tasks.preprocess import preprocess
from tasks.promote import promote
from tasks.register import register
from tasks.train import train as train_head


@project_flow(
    call_train, name="train", flow_run_name=naming.flow_run_name, validate_parameters=False
)
def train(params: Params | None = None) -> Promotion:
    """Runs what is stale of the pipeline, registers the model, and promotes it if it may be.

    Args:
        params: What it runs with, by default what ``params.yaml`` holds. Others are written there
            first, where the stages read them; the former file is kept in ``var/params/``.
    """
    with opened(params):
        return steps()


def steps() -> Promotion:
    """The steps of a training, in their order."""
    dataset = load()
    images = preprocess(dataset)
    network = assemble(dataset)
    plan = freeze(network)
    features = extract(images, network, plan)
    trained = train_head(features, network, plan)
    metrics = evaluate(dataset, trained)
    export(images, trained)
    registered = register(trained, metrics)
    promotion = promote(registered)
    notify()
    return promotion
