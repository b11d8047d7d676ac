"""Photographs flow runs in Prefect's pages, runs and models in MLflow's, and the prediction page.

With ``--deployment retrain/nightly`` it is that deployment's page, with its schedule and its runs,
instead of the newest flow run.
Where that flow run exported models, their table is photographed too, as Prefect shows it.

Usage, while ``graftline ui`` and ``graftline serve`` run:

    python -m benchmarks.screenshots --prefect http://127.0.0.1:4200 \
        --mlflow http://127.0.0.1:5000 --serve http://127.0.0.1:8000 --out docs/images

``--only mlflow-registry`` takes a single picture.
Needs a Chromium or Chrome; ``--browser`` names it if it is not on the path. Servers that Graftline
started ask for the login in ``var/login``; ``--login`` names the file if it lies elsewhere.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
VIEWPORT = {"width": 1440, "height": 900}
MAX_BYTES = 300_000
PICTURE = "evaluation/confusion_matrix.png"
"""The artifact of an MLflow run that is photographed as MLflow shows it."""
LIST = "workflowType=machine_learning&viewStateShareKey=graftline"
"""What graftline ui opens the list of runs with."""
EXPORTS = "exports"
"""The key of the Prefect artifact that holds the table of exported models."""
CURVES = "^(validation_)?(loss|accuracy)$"
"""The metrics whose charts are photographed, as MLflow's search takes it."""
STROKES = (
    ((0.5, 0.22), (0.34, 0.3), (0.3, 0.5), (0.42, 0.5), (0.62, 0.5)),
    ((0.63, 0.22), (0.62, 0.5), (0.58, 0.8)),
)
"""What is drawn on the prediction page: between a four and a nine, in shares of the canvas."""
_ANSWER_LIMIT_S = 20
_PAGE_LIMIT_MS = 60_000
_SETTLE_MS = 1500
_COLOURS = 256
_STEPS = 6
# No sandbox, as it is common in containers; and nothing that would call home.
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Shot:
    """One page to photograph.

    Args:
        name: Of the picture, without its suffix.
        address: Of the page.
        ready: Waits until what the picture is about can be seen.
    """

    name: str
    address: str
    ready: Callable[[Page], None]


def main(arguments: list[str]) -> int:
    """Takes the pictures and says where they are."""
    options = _parser().parse_args(arguments)
    if (credentials := _credentials(options.login)) is not None:
        _ask_as(*credentials)
    shots: list[Shot] = []
    if options.prefect and options.deployment:
        shots.append(deployment_shot(options.prefect.rstrip("/"), options.deployment))
    elif options.prefect:
        shots += prefect_shots(options.prefect.rstrip("/"))
    if options.mlflow:
        shots += mlflow_shots(options.mlflow.rstrip("/"))
    if options.serve:
        shots += serve_shots(options.serve.rstrip("/"))
    if options.only and shots:
        shots = [shot for shot in shots if shot.name == options.only]
        if not shots:
            print(f"there is nothing to see for {options.only}", file=sys.stderr)
            return 2
    if not shots:
        print("name a server: --prefect, --mlflow, --serve or several", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    with opened_page(options.browser, credentials) as page:
        if options.mlflow:
            settle_mlflow(page, options.mlflow)
        for shot in shots:
            path = options.out / f"{shot.name}.png"
            take(page, shot, path)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {shot.address}")
    return 0


def prefect_shots(base: str) -> list[Shot]:
    """The newest flow run: its page with the graph of its tasks, and its table of exports."""
    # A deployment's schedule makes runs days before they begin.
    begun = {"flow_runs": {"start_time": {"is_null_": False}}}
    found = _asked(f"{base}/api/flow_runs/filter", {**begun, "sort": "START_TIME_DESC", "limit": 1})
    if not found:
        raise SystemExit(f"there is no flow run at {base}")
    run = found[0]

    def ready(page: Page) -> None:
        page.get_by_text(run["name"]).first.wait_for()
        # The graph draws itself on a canvas; the rows below it tell that the tasks have come.
        page.locator("canvas").first.wait_for()
        page.get_by_text("Completed").first.wait_for()

    shots = [Shot("prefect-flow-run", f"{base}/runs/flow-run/{run['id']}", ready)]
    tables = _asked(
        f"{base}/api/artifacts/filter",
        {
            "artifacts": {"key": {"any_": [EXPORTS]}, "flow_run_id": {"any_": [run["id"]]}},
            "limit": 1,
        },
    )
    if tables:

        def table(page: Page) -> None:
            page.locator("table").get_by_text("original").first.wait_for()

        shots.append(Shot("export-table", f"{base}/artifacts/artifact/{tables[0]['id']}", table))
    return shots


def deployment_shot(base: str, name: str) -> Shot:
    """A deployment's page: its schedule, and its runs so far.

    Args:
        base: Prefect's address.
        name: The flow's name and the deployment's, as in ``retrain/nightly``.
    """
    address = f"{base}/api/deployments/name/{name}"
    with urllib.request.urlopen(address, timeout=_ANSWER_LIMIT_S) as answer:
        found = json.load(answer)

    def ready(page: Page) -> None:
        page.get_by_text(found["name"]).first.wait_for()
        page.get_by_text("Schedules").first.wait_for()
        page.get_by_text("Completed").first.wait_for()

    return Shot("prefect-deployment", f"{base}/deployments/deployment/{found['id']}", ready)


def mlflow_shots(base: str) -> list[Shot]:
    """The list of runs, and of the newest its overview and its metrics."""
    experiments = _asked(f"{base}/api/2.0/mlflow/experiments/search", {"max_results": 1000})
    found = _asked(
        f"{base}/api/2.0/mlflow/runs/search",
        {
            "experiment_ids": [one["experiment_id"] for one in experiments["experiments"]],
            "order_by": ["attributes.start_time DESC"],
            "max_results": 1,
        },
    )
    if not found.get("runs"):
        raise SystemExit(f"there is no run at {base}")
    info = found["runs"][0]["info"]
    pages = f"{base}/#/experiments/{info['experiment_id']}/runs"
    address = f"{pages}/{info['run_id']}"

    def listed(page: Page) -> None:
        page.get_by_text(info["run_name"][:20]).first.wait_for()
        page.get_by_text("test_accuracy", exact=True).first.wait_for()

    def overview(page: Page) -> None:
        page.get_by_text(info["run_name"]).first.wait_for()
        page.get_by_text("Parameters (").first.wait_for()

    def metrics(page: Page) -> None:
        page.get_by_placeholder("Search metric charts").fill(CURVES)
        page.wait_for_timeout(_SETTLE_MS)
        page.locator(".js-plotly-plot .main-svg").first.wait_for()

    def picture(page: Page) -> None:
        page.locator("img[src^='blob:']").first.wait_for()

    shots = [
        *([Shot("mlflow-runs", f"{pages}?{LIST}", listed)] if _has_view(experiments, info) else []),
        Shot("mlflow-run", address, overview),
        Shot("mlflow-metrics", f"{address}/model-metrics", metrics),
    ]
    if any(one["path"] == PICTURE for one in _artifacts(base, info["run_id"])):
        shots.append(Shot("mlflow-picture", f"{address}/artifacts/{PICTURE}", picture))
    return shots + registry_shots(base)


def registry_shots(base: str) -> list[Shot]:
    """The registered model that was changed last: its versions with their aliases."""
    found = _read(f"{base}/api/2.0/mlflow/registered-models/search?max_results=100")
    models = found.get("registered_models", [])
    if not models:
        return []
    newest = max(models, key=lambda one: int(one["last_updated_timestamp"]))
    aliases = [one["alias"] for one in newest.get("aliases", [])]

    def versions(page: Page) -> None:
        page.get_by_text("Version 1", exact=True).first.wait_for()
        for alias in aliases:
            page.get_by_text(alias).first.wait_for()

    return [Shot("mlflow-registry", f"{base}/#/models/{newest['name']}", versions)]


def serve_shots(base: str) -> list[Shot]:
    """The prediction page, with a drawing and its answer."""

    def ready(page: Page) -> None:
        draw(page, STROKES[:-1])
        page.locator("#answers .label").wait_for()
        with page.expect_response("**/predict"):
            draw(page, STROKES[-1:])
        page.locator("#answers .label").wait_for()

    return [Shot("serve-page", f"{base}/", ready)]


def draw(page: Page, strokes: Iterable[Sequence[tuple[float, float]]]) -> None:
    """Draws on the prediction page with the mouse.

    Args:
        page: The page.
        strokes: The points of each, in shares of the canvas.
    """
    canvas = page.locator("#canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    if box is None:
        raise SystemExit("the page has no canvas")
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=_STEPS)
        page.mouse.up()


def settle_mlflow(page: Page, base: str) -> None:
    """Chooses the pages for training over those for chat models, which a new browser shows."""
    page.goto(base)
    page.get_by_text("Model training", exact=True).first.click()
    page.wait_for_timeout(_SETTLE_MS)
    for close in page.get_by_role("button", name="Close", exact=True).all():
        close.click()  # the assistant, which takes a quarter of the page
    page.wait_for_timeout(_SETTLE_MS)


def take(page: Page, shot: Shot, path: Path) -> None:
    """Photographs one page once its content can be seen."""
    # A page of its own state: a change of the part after # alone would not load anything.
    page.goto("about:blank")
    page.goto(shot.address)
    shot.ready(page)
    page.wait_for_timeout(_SETTLE_MS)  # the pages move things into place
    page.screenshot(path=path, animations="disabled")
    shrink(path)


def shrink(path: Path) -> None:
    """Saves a picture with a palette, as pages with few colours take well."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}")


@contextmanager
def opened_page(
    browser: str | None = None, credentials: tuple[str, str] | None = None
) -> Iterator[Page]:
    """A page of 1440 x 900 in a headless browser of this machine, logged in if that is wanted."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=browser or installed_browser(), args=list(_ARGUMENTS)
        )
        try:
            page = running.new_page(
                viewport=VIEWPORT,
                color_scheme="light",
                http_credentials=None
                if credentials is None
                else {"username": credentials[0], "password": credentials[1]},
            )
            if credentials is not None:
                # As Prefect's page keeps what was typed into it.
                kept = base64.b64encode(":".join(credentials).encode()).decode()
                page.add_init_script(f"localStorage.setItem('prefect-password', '{kept}')")
            page.set_default_timeout(_PAGE_LIMIT_MS)
            yield page
        finally:
            running.close()


def installed_browser() -> str:
    """The path of this machine's Chromium or Chrome."""
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    raise SystemExit(f"none of {', '.join(BROWSERS)} is installed; name one with --browser")


def _has_view(experiments: dict[str, Any], info: dict[str, Any]) -> bool:
    """Whether the columns of the list are those that Graftline chooses."""
    tags = [
        tag["key"]
        for one in experiments["experiments"]
        if one["experiment_id"] == info["experiment_id"]
        for tag in one.get("tags", [])
    ]
    return "mlflow.sharedViewState.graftline" in tags


def _artifacts(base: str, run_id: str) -> list[dict[str, Any]]:
    address = f"{base}/api/2.0/mlflow/artifacts/list?run_id={run_id}&path={Path(PICTURE).parent}"
    listed: list[dict[str, Any]] = _read(address).get("files", [])
    return listed


def _credentials(file: Path) -> tuple[str, str] | None:
    if not file.is_file():
        return None
    name, _, password = file.read_text(encoding="ascii").strip().partition(":")
    return name, password


def _ask_as(name: str, password: str) -> None:
    """Has all questions carry the login that Prefect's and MLflow's servers here ask for."""
    token = base64.b64encode(f"{name}:{password}".encode()).decode()
    opener = urllib.request.build_opener()
    opener.addheaders.append(("Authorization", f"Basic {token}"))
    urllib.request.install_opener(opener)


def _read(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=_ANSWER_LIMIT_S) as answer:
        return json.load(answer)


def _asked(address: str, question: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        address, data=json.dumps(question).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_ANSWER_LIMIT_S) as answer:
        return json.load(answer)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--prefect", metavar="URL", help="Prefect's address, without /api")
    parser.add_argument("--deployment", metavar="FLOW/NAME", help="this one's page of Prefect's")
    parser.add_argument("--mlflow", metavar="URL", help="MLflow's address")
    parser.add_argument("--serve", metavar="URL", help="the address of graftline serve")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="the folder")
    parser.add_argument(
        "--login", type=Path, default=Path("var/login"), help="the file with the servers' login"
    )
    parser.add_argument("--only", metavar="NAME", help="this picture alone, as in mlflow-run")
    parser.add_argument("--browser", metavar="FILE", help="a Chromium or Chrome")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
