"""Predicts image files of any number into one Parquet file, and looks whether they have drifted.

python -m flows.predict PATH… [--out FILE] [--model VERSION|ALIAS|FOLDER]
"""

# ruff: noqa: E402
from __future__ import annotations

import sys

from graftline.core.environment import begin_plainly
from graftline.orchestration.predict_run import Request, call_predict, launch

if __name__ == "__main__":
    begin_plainly()
    # Before Prefect is imported, which takes seconds in which its server can already start.
    sys.exit(launch(sys.argv[1:]))

from graftline.inference.batch.writer import Batch
from graftline.inference.drift.decision import Drift
from graftline.orchestration.naming import prediction_name
from graftline.orchestration.predict_run import opened
from graftline.orchestration.project_flow import project_flow
from tasks.choose_model import choose_model
from tasks.drift import drift
from tasks.predict import predict as predict_files


@project_flow(
    call_predict, name="predict", flow_run_name=prediction_name, validate_parameters=False
)
def predict(request: Request) -> tuple[Batch, Drift]:
    """Writes the predictions and the drift report.

    Args:
        request: What is predicted, by which model, and where the answers go.
    """
    with opened(request):
        model = choose_model(request)
        batch = predict_files(request, model)
        return batch, drift(batch, model)
