"""make torture: kills the pipeline at random moments, lets bits flip, and looks for losses.

python -m tests.torture --kills 60 --flips 40 --seed 1
python -m tests.torture --workers 30 --seed 1
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests import disks
from tests.torture import place, processes
from tests.torture.audit import Check
from tests.torture.campaign import Campaign
from tests.torture.clusters import VICTIMS
from tests.torture.flips import FATES, KINDS
from tests.torture.lives import DOORS, ROWS
from tests.torture.worker_kills import STEPS, WorkerCampaign

_WIDTH = 100
_NEEDED_BYTES = 1 << 30


def main() -> int:
    """Runs a campaign; returns 1 if anything was lost, and then keeps the checkout."""
    options = _options()
    console = Console(width=_WIDTH, highlight=False)
    processes.become_init()
    # In memory where possible: a kill is no power failure for a disk, and its waits cost minutes.
    memory = disks.memory(_NEEDED_BYTES)
    folder = Path(tempfile.mkdtemp(prefix="graftline-torture-", dir=memory))
    started_s = time.monotonic()
    what = (
        f"{options.workers} kills on clusters"
        if options.workers
        else f"{options.kills} kills, {options.flips} flips"
    )
    console.print(f"{what}, seed {options.seed}, in {folder}", markup=False)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    chunked = options.workers > 0
    tortured = place.make(folder, generated=options.project, chunked=chunked)
    campaign = (
        WorkerCampaign(tortured, options.workers, options.seed, say)
        if chunked
        else Campaign(tortured, options.kills, options.seed, say, options.flips)
    )
    audit: list[Check] = []
    try:
        audit = campaign.run()
    except (Exception, KeyboardInterrupt) as error:
        campaign.losses.append(f"{type(error).__name__}: {error}")
    finally:
        for process in processes.marked(campaign.place.mark):
            process.kill()
    for table in _tables(campaign):
        console.print(table)
    for check in audit:
        sign = "LOST" if check.wrong else "ok"
        console.print(f"{sign:<4}  {check.title}  {check.count}", markup=False, soft_wrap=True)
    for loss in campaign.losses:
        console.print(f"LOST  {loss}", markup=False, soft_wrap=True)
    minutes = (time.monotonic() - started_s) / 60
    console.print(f"{_told(campaign)}; {minutes:.1f} minutes")
    if campaign.losses:
        console.print(f"something was lost; everything is kept in {folder}", soft_wrap=True)
        return 1
    console.print("nothing was lost")
    if not options.keep:
        shutil.rmtree(folder)
    return 0


def _told(campaign: Campaign | WorkerCampaign) -> str:
    if isinstance(campaign, WorkerCampaign):
        return (
            f"{len(campaign.done)} kills, {campaign.finished} runs came to their end, "
            f"{campaign.again} were started again since they or their scheduler were killed"
        )
    return (
        f"{len(campaign.done)} kills, {len(campaign.flipped)} flips, {campaign.finished} lives "
        f"came to their end, {campaign.refused} were refused since another was at work; "
        f"{campaign.mended} times an experiment's changes were brought back, {campaign.remedied} "
        "times graftline mend was run"
    )


def _tables(campaign: Campaign | WorkerCampaign) -> list[Table]:
    if isinstance(campaign, WorkerCampaign):
        return [_workers_table(campaign)]
    return [_table(campaign), *([_flips_table(campaign)] if campaign.flipped else [])]


def _workers_table(campaign: WorkerCampaign) -> Table:
    title = f"{len(campaign.done)} kills on clusters, seed {campaign.seed}"
    kills = [(kill.step, kill.victim) for kill in campaign.done]
    table = _counts(title, "killed in", kills, STEPS, VICTIMS)
    forms = Counter(kill.form for kill in campaign.done)
    among = sum(kill.chunks > 0 for kill in campaign.done)
    table.caption = (
        f"clusters: {', '.join(f'{form} {count}' for form, count in forms.items())}; {among} when "
        f"chunks were done, {len(campaign.done) - among} before the first"
    )
    return table


def _table(campaign: Campaign) -> Table:
    title = f"{len(campaign.done)} kills, seed {campaign.seed}"
    kills = [(kill.row, kill.door) for kill in campaign.done]
    table = _counts(title, "killed in", kills, ROWS, DOORS)
    reaches = Counter(kill.reach for kill in campaign.done)
    at_work = sum(kill.at_work for kill in campaign.done)
    table.caption = (
        f"{', '.join(f'{reach}: {count}' for reach, count in reaches.items())}; "
        f"{at_work} while a stage was at work, {len(campaign.done) - at_work} between two"
    )
    return table


def _flips_table(campaign: Campaign) -> Table:
    title = f"bits that flipped {len(campaign.flipped)} times"
    flips = [(one.kind, one.fate) for one in campaign.flipped]
    return _counts(title, "in", flips, KINDS, FATES)


def _counts(
    title: str,
    corner: str,
    found: Sequence[tuple[str | None, str | None]],
    rows: Iterable[str],
    columns: Sequence[str],
) -> Table:
    """How often each row met each column, with the sums."""
    table = Table(title=title)
    table.add_column(corner)
    for column in (*columns, "all"):
        table.add_column(column, justify="right")
    for row in rows:
        counts = Counter(second for first, second in found if first == row)
        table.add_row(row, *(str(counts[one] or "") for one in columns), str(counts.total()))
    counts = Counter(second for _, second in found)
    table.add_section()
    table.add_row("all", *(str(counts[one]) for one in columns), str(counts.total()))
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="how many (default: 60)")
    parser.add_argument("--flips", type=int, default=40, help="of bits in files (default: 40)")
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        help="instead: kills of what a Dask cluster consists of, while steps work on it",
    )
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10_000), help="of all that is left to chance"
    )
    parser.add_argument(
        "--project",
        action="store_true",
        help="in a project of graftline init, by an environment that has the wheel",
    )
    parser.add_argument("--keep", action="store_true", help="keep the checkout in any case")
    return parser.parse_args()


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[2])
    sys.exit(main())
