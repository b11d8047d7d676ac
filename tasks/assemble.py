"""Task ``assemble``: has base weights, backbone and fresh head put together."""

from __future__ import annotations

from graftline.core.markdown import table
from graftline.core.records import Assembled, Dataset
from graftline.core.workspace import Workspace
from graftline.orchestration import publish
from graftline.orchestration.stage_task import run_stage, step


@step("assemble")
def assemble(dataset: Dataset) -> Assembled:
    """Assembles the network for the classes of ``dataset``; leaves its outline as an artifact."""
    return run_stage("assemble", Assembled, _publish)


def _publish(workspace: Workspace, network: Assembled) -> None:
    head = " → ".join(f"{units} units" for units in network.head_units)
    digest = network.weights_sha256
    facts = [
        ("backbone", f"{network.backbone}, alpha {network.alpha:g}, {network.size_px} px"),
        ("base weights", network.weights),
        ("SHA-256 of their file", f"`{digest}`" if digest else "drawn at random, from no file"),
        ("cut after", f"`{network.cut}`, {network.feature_dim(network.cut)} channels"),
        ("weights up to the cut", f"{sum(layer.params for layer in network.up_to(network.cut)):,}"),
        (
            "head",
            f"{network.pooling} pooling → {head + ' → ' if head else ''}"
            f"dropout {network.dropout:g} → {len(network.classes)} classes",
        ),
    ]
    publish.markdown(
        "network", table(["part", "is"], facts), "The backbone, its weights and the head"
    )
