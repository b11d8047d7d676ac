"""The prediction page in a real browser: choosing, dropping, pasting, drawing, and what it asks."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from benchmarks import screenshots
from graftline.core.records import Trained
from graftline.core.workspace import Workspace
from tests import finished
from tests.unit.inference.serving.service import Client, asked, encoded

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not any(map(shutil.which, screenshots.BROWSERS)),
        reason=f"needs one of {', '.join(screenshots.BROWSERS)}",
    ),
]
GIVE = """([kind, name, text]) => {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/png" }));
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
    : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""
SHOWN = """() => {
  const picture = document.querySelector("article img"), canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas.toDataURL().split(",")[1];
}"""
"""The picture beside the answer, which is the file that was sent, in base64."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    workspace = Workspace(tmp_path_factory.mktemp("model"))
    finished.train(workspace)
    place = Trained.path_in(workspace)
    Trained.read(place).model_copy(update={"drawings": True}).write(place)
    with asked(workspace.trained, images=3) as (client, _):
        yield client


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    with screenshots.opened_page() as page:
        yield page


@pytest.fixture
def page(browser_page: Page, client: Client) -> Iterator[Page]:
    """The page, which complains of nothing and asks nobody else."""
    asked_for: list[str] = []
    complaints: list[str] = []

    def heard(message: object) -> None:
        # Chromium tells of every answer that is an error; the page itself shows it.
        if "Failed to load resource" not in message.text:  # type: ignore[attr-defined]
            complaints.append(message.text)  # type: ignore[attr-defined]

    def sent(request: object) -> None:
        asked_for.append(request.url)  # type: ignore[attr-defined]

    browser_page.on("request", sent)
    browser_page.on("console", heard)
    browser_page.on("pageerror", lambda error: complaints.append(str(error)))
    browser_page.goto(f"{client.address}/")
    expect(browser_page.locator("#drawing")).to_be_visible()
    yield browser_page
    browser_page.remove_listener("request", sent)
    browser_page.remove_listener("console", heard)
    assert complaints == []
    own = (f"{client.address}/", f"blob:{client.address}/", "data:")
    assert [url for url in asked_for if not url.startswith(own)] == []


@pytest.fixture
def noon(tmp_path: Path) -> Path:
    path = tmp_path / "noon.png"
    Image.new("L", (28, 28), 240).save(path)
    return path


def test_a_chosen_file_gets_its_answer_with_bars(page: Page, noon: Path) -> None:
    expect(page.locator("#model")).to_contain_text("2 classes, 32 px")
    page.locator("#files").set_input_files(noon)

    expect(page.locator(".label")).to_contain_text("bright")
    expect(page.locator(".name")).to_have_text("noon.png")
    assert page.locator("th").all_inner_texts() == ["bright", "dark"]
    widths = [bar.bounding_box()["width"] for bar in page.locator(".bar").all()]  # type: ignore[index]
    track = page.locator(".track").first.bounding_box()
    assert track is not None
    shares = [float(cell.get_attribute("title") or "") for cell in page.locator("td[title]").all()]
    assert shares[0] > 0.99
    assert widths == pytest.approx([share * track["width"] for share in shares], abs=1)


def test_several_files_with_a_broken_one(page: Page, noon: Path, tmp_path: Path) -> None:
    broken = tmp_path / "<b>broken.png"
    broken.write_bytes(b"junk")
    page.locator("#files").set_input_files([noon, broken])

    expect(page.locator("article")).to_have_count(2)
    expect(page.locator("article .error")).to_contain_text("no image of a known kind")
    expect(page.locator("article").nth(1)).to_contain_text("<b>broken.png")


def test_too_many_files_are_told_with_what_to_do(page: Page, noon: Path) -> None:
    page.locator("#files").set_input_files([noon] * 5)

    expect(page.get_by_role("alert")).to_contain_text("too many")
    expect(page.get_by_role("alert")).to_contain_text("from 1 to 3 images")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_an_image_can_be_dropped_and_pasted(page: Page, kind: str) -> None:
    night = encoded(np.full((20, 20), 5, np.uint8))
    page.evaluate(GIVE, [kind, f"{kind}.png", base64.b64encode(night).decode()])

    expect(page.locator(".name")).to_have_text(f"{kind}.png")
    expect(page.locator(".label")).to_contain_text("dark")


def test_a_drawing_is_sent_as_mnist_has_its_digits(page: Page) -> None:
    screenshots.draw(page, [((0.1, 0.1), (0.1, 0.6))])
    expect(page.locator(".name")).to_have_text("drawing.png")
    expect(page.locator("article img.small")).to_be_visible()
    text = page.evaluate(SHOWN)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L"), float)

    assert pixels.shape == (28, 28)
    assert pixels[0].max() == pixels[:, 0].max() == 0, "the ground is black"
    assert pixels.max() == 255, "the line is white"
    rows, columns = np.nonzero(pixels > 30)
    assert rows.max() - rows.min() + 1 == 20
    middle = [np.average(np.arange(28) + 0.5, weights=pixels.sum(axis)) for axis in (0, 1)]
    assert middle == pytest.approx([14, 14], abs=0.75)
    assert columns.max() - columns.min() + 1 < 9

    clear = page.get_by_role("button", name="Clear")
    clear.click()
    expect(clear).to_be_disabled()


def test_only_a_model_of_grey_drawings_has_a_drawing_area(
    browser_page: Page, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    finished.train(workspace)
    with asked(workspace.trained) as (photographs, _):
        assert photographs.get("/model").json()["drawings"] is False
        browser_page.goto(f"{photographs.address}/")
        expect(browser_page.locator("#facts")).to_contain_text("2 classes")
        expect(browser_page.locator("#drawing")).to_be_hidden()
        expect(browser_page.locator("#drawn")).to_be_hidden()


def test_it_is_used_with_the_keyboard_and_read_aloud(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    assert page.locator("#answers").get_attribute("aria-live") == "polite"
    assert page.locator("#canvas").get_attribute("aria-label")
    for heading in ("Images", "Or draw", "Answer"):
        expect(page.get_by_role("region", name=heading)).to_be_visible()


def test_it_is_dark_where_the_reader_is(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    page.emulate_media(color_scheme="light")
    assert (light, dark) == ("rgb(246, 247, 245)", "rgb(19, 23, 21)")


def test_it_fits_a_narrow_screen(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.set_viewport_size(screenshots.VIEWPORT)
    assert wide <= 360


def test_the_docs_page_runs_without_a_complaint(page: Page, client: Client) -> None:
    page.goto(f"{client.address}/docs")
    expect(page.get_by_role("heading", name="POST /predict")).to_be_visible()


def test_it_is_photographed_with_an_answer(page: Page, client: Client, tmp_path: Path) -> None:
    (shot,) = screenshots.serve_shots(client.address)
    screenshots.take(page, shot, tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.size == (1440, 900)
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50, "the page is blank"
