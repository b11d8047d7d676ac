"""The scheduled flow: trains if there is anything new to train for, and says so if there is not.

python -m flows.retrain --force
"""

# ruff: noqa: E402
from __future__ import annotations

import sys

from graftline.core.environment import begin_plainly
from graftline.orchestration.launch import call_retrain, launch

if __name__ == "__main__":
    begin_plainly()
    sys.exit(launch("flows.retrain", "retrain", sys.argv[1:], looks=True))

from typing import Any

from flows.train import steps
from graftline.orchestration.pipeline import opened
from graftline.orchestration.project_flow import project_flow
from graftline.orchestration.retraining import attempt, outcome_state
from tasks.detect_changes import look


@project_flow(call_retrain, name="retrain", flow_run_name="retrain")
def retrain(force: bool = False, wait_s: float = 0.0) -> Any:
    """Looks for new images, changed parameters or changed code, and trains if there are any.

    Args:
        force: Runs every stage, whatever is new.
        wait_s: How long to wait if another process holds the pipeline, in seconds.
    """
    with attempt(force=force, wait_s=wait_s):
        news = look()
        if not news.anything:
            return outcome_state(news)
        with opened():
            outcome = steps()
        return outcome_state(news, outcome)
