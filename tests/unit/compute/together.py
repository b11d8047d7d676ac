"""What the tests of groups start: one that leads a group, whose processes do next to nothing.

python -m tests.unit.compute.together FOLDER ADDRESS
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from graftline.compute.groups import end_with_parent
from graftline.compute.worker_group import lead
from graftline.core.exit_codes import reported
from graftline.core.params import ComputeParams


def member(folder: Path) -> int:
    """Tells who it is, and does what a file says that is named after its index."""
    end_with_parent()
    config = json.loads(os.environ["TF_CONFIG"])
    index = config["task"]["index"]
    told = folder / f"member-{index}-{os.getpid()}"
    told.write_text(json.dumps(config))
    while not (order := folder / f"order-{index}").exists():
        time.sleep(0.05)
    sys.stderr.write(f"this is member {index}\n")
    return int(order.read_text())


def leader(folder: Path, address: str) -> int:
    """Leads a group of three on two workers."""
    compute = ComputeParams(engine="dask", address=address, strategy="multi_worker")
    command = ["-m", "tests.unit.compute.together", str(folder)]
    return reported(lambda: lead(folder, compute, command), debug=False)


if __name__ == "__main__":
    sys.exit(leader(Path(sys.argv[1]), sys.argv[2]) if sys.argv[2:] else member(Path(sys.argv[1])))
