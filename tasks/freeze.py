"""Task ``freeze``: has the strategy turned into a plan of which layers train."""

from __future__ import annotations

from graftline.core.markdown import table
from graftline.core.records import Assembled, FreezePlan
from graftline.core.workspace import Workspace
from graftline.orchestration import publish
from graftline.orchestration.stage_task import run_stage, step
from graftline.selection.speeds import DepthSpeeds


@step("freeze")
def freeze(network: Assembled) -> FreezePlan:
    """Plans for the layers of ``network``; leaves the table of blocks as an artifact."""
    return run_stage("freeze", FreezePlan, _publish)


def _publish(workspace: Workspace, plan: FreezePlan) -> None:
    report = workspace.freezing_report
    parts = [f"**{plan.strategy}**: {plan.reason}."]
    if plan.measured:
        # The sentence stands above already.
        verdict = (report / "verdict.md").read_text(encoding="utf-8").partition("\n\n")[2]
        pictures = [report / "depth_profile.png", report / "race.png"]
        parts += [publish.picture(path) for path in pictures if path.is_file()]
        parts += [verdict, *_speeds(workspace)]
    parts.append((report / "table.md").read_text(encoding="utf-8"))
    publish.markdown("freezing-plan", "\n\n".join(parts), "Which blocks are frozen and which train")


def _speeds(workspace: Workspace) -> list[str]:
    """Images per second by depth, which stand in no output since no two runs agree on them."""
    speeds = DepthSpeeds.find_in(workspace)
    if not speeds:
        return []
    rows = [
        (layer, f"{speed.images_per_s:,.0f}", "measured" if speed.measured else "interpolated")
        for layer, speed in speeds.by_layer.items()
    ]
    return [table(("cut after", "images per second here", ""), rows)]
