"""What each address answers, and how much it takes before it refuses."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from graftline.cli.predict import show_predictions
from graftline.core.workspace import Workspace
from graftline.inference.serving.app import Service
from graftline.inference.serving.schemas import Refused
from tests.unit.inference.serving.service import Client, asked, encoded, form, in_base64

NOON = encoded(np.full((28, 28), 240, np.uint8))
NIGHT = encoded(np.full((40, 30, 3), 10, np.uint8), "JPEG")
JSON = {"Content-Type": "application/json"}
ZEROS = b'{"images": [0' + b",0" * 45_000 + b"]}"
REFUSALS = {200, 400, 413, 415, 422}


def files_of_all_kinds() -> dict[str, bytes]:
    random = np.random.default_rng(5)
    grey = random.integers(90, 165, (61, 47), dtype=np.uint8)
    colour = random.integers(90, 165, (20, 90, 3), dtype=np.uint8)
    small = random.integers(90, 165, (9, 7), dtype=np.uint8)
    kinds = {"a.png": (grey, "PNG"), "b.jpg": (colour, "JPEG"), "c.webp": (colour, "WEBP")}
    kinds |= {"d.gif": (small, "GIF"), "e.bmp": (colour, "BMP"), "f.tif": (grey, "TIFF")}
    return {name: encoded(*image) for name, image in kinds.items()} | {"g.png": b"no image"}


def bomb(width: int, height: int) -> bytes:
    """A PNG file of a hundred bytes that tells of a large image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.mark.parametrize("way", ["form", "json", "one by one"])
def test_the_answer_is_that_of_graftline_predict_to_the_last_digit(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    images = files_of_all_kinds()
    for name, data in images.items():
        (tmp_path / name).write_bytes(data)
    show_predictions(
        Workspace(tmp_path),
        [str(tmp_path / name) for name in images],
        as_json=True,
        model=str(model),
    )
    expected = [line.replace(f"{tmp_path}/", "") for line in capsys.readouterr().out.splitlines()]

    with asked(model) as (client, _):
        if way == "form":
            files = [("image", (name, data)) for name, data in images.items()]
            texts = [client.post("/predict", files=files).text]
        elif way == "json":
            named = [{"name": name, "data": in_base64(data)} for name, data in images.items()]
            texts = [client.post("/predict", json={"images": named}).text]
        else:
            texts = [
                client.post("/predict", files={"x": (name, data)}).text
                for name, data in images.items()
            ]
    whole = "".join(texts)
    assert len(expected) == len(images)
    for line in expected:
        assert line in whole


def test_images_that_are_run_together_do_not_change_each_other(model: Path) -> None:
    random = np.random.default_rng(1)
    images = [encoded(random.integers(95, 160, (28, 28), dtype=np.uint8)) for _ in range(40)]
    with asked(model, workers=1) as (client, service):
        alone = [client.post("/predict", files=form(image)).json() for image in images]
        together = service.counters.count("graftline_run_images_count")
        with ThreadPoolExecutor(16) as pool:
            posts = pool.map(lambda image: client.post("/predict", files=form(image)), images)
            crowded = [post.json() for post in posts]
        runs = service.counters.count("graftline_run_images_count") - together
    assert crowded == alone
    assert len({str(one["predictions"]) for one in alone}) > 30, "the images differ"
    assert 0 < runs < len(images)


def test_every_answer_names_its_model(client: Client, running: tuple[Any, Service]) -> None:
    answer = client.post("/predict", files=form(NOON)).json()

    assert answer["model"] == running[1].place.model.version.to_record()
    assert answer["model"]["version"] is None
    (one,) = answer["predictions"]
    assert (one["file"], one["label"]) == ("0.png", "bright")
    assert one["probability"] == one["probabilities"]["bright"] > 0.99


def test_one_bad_image_does_not_stop_the_others(client: Client) -> None:
    answer = client.post("/predict", files=form(NOON, b"", b"junk", NIGHT))

    assert answer.status_code == 200
    rows = answer.json()["predictions"]
    assert [row.get("label") for row in rows] == ["bright", None, None, "dark"]
    assert rows[1] == {"file": "1.png", "error": "the file is empty (0 bytes)"}
    assert "no image of a known kind" in rows[2]["error"]


def test_json_takes_bare_texts_names_line_ends_and_data_addresses(client: Client) -> None:
    text = in_base64(NOON)
    images = [
        text,
        f"data:image/png;base64,{text[:20]}\n{text[20:]}",
        {"name": "noon", "data": text},
        "!",
    ]
    rows = client.post("/predict", json={"images": images}).json()["predictions"]

    assert [row.get("label") for row in rows] == ["bright"] * 3 + [None]
    assert [row["file"] for row in rows] == ["images[0]", "images[1]", "noon", "images[3]"]
    assert "is no base64" in rows[3]["error"]


def test_a_bomb_is_not_decoded(client: Client) -> None:
    answer = client.post("/predict", files=form(NOON, bomb(100_000, 100_000)))

    error = answer.json()["predictions"][1]["error"]
    assert "10000000000 pixels, more than 1000000 (--max-image-px)" in error


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "broken image": ({"files": form(NOON[:45])}, 422, "none of the 1 images"),
    "bomb": ({"files": form(bomb(60_000, 60_000))}, 422, "pixels, more than"),
    "bad base64": ({"json": {"images": ["a*c="]}}, 422, "is no base64"),
    "no images": ({"json": {"images": []}}, 422, "no image"),
    "too many images": ({"json": {"images": ["eA=="] * 5}}, 422, "5 images, which is too many"),
    "too many values": ({"data": ZEROS, "headers": JSON}, 422, "more values"),
    "too many files": ({"files": form(*[b"x"] * 9)}, 422, "too many"),
    "unknown key": ({"json": {"image": "eA=="}}, 422, "Field required"),
    "wrong type": ({"json": {"images": [3]}}, 422, "valid string"),
    "no JSON": ({"data": b"{", "headers": JSON}, 400, "JSON"),
    "deep JSON": ({"data": b"[" * 50_000, "headers": JSON}, 400, "recursion"),
    "no file": ({"files": {"image": (None, "text")}}, 422, "is no file"),
    "no boundary": (
        {"data": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "boundary",
    ),
    "another kind": ({"data": NOON, "headers": {"Content-Type": "image/png"}}, 415, "image/png"),
    "no kind": ({"data": NOON}, 415, "does not tell"),
    "too large": ({"data": b"x" * 100_001, "headers": JSON}, 413, "100,001 bytes"),
    "too large, in pieces": ({"data": iter([b"x" * 60_000] * 2), "headers": JSON}, 413, "more"),
    "another host": ({"files": form(NOON), "headers": {"Host": "example.com"}}, 403, "example.com"),
    "another page": (
        {"files": form(NOON), "headers": {"Origin": "http://example.com"}},
        403,
        "header Origin",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_told(client: Client, name: str) -> None:
    request, status, told = REFUSED[name]
    answer = client.post("/predict", **request)

    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert told in json.dumps(error)
    assert all(error[part] for part in ("what", "where", "allowed", "fix"))
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("GET", "/x"), ("POST", "/")])
def test_an_unknown_address_is_told_the_known_ones(client: Client, method: str, path: str) -> None:
    answer = client.request(method, path)

    assert answer.status_code == (404 if path == "/x" else 405)
    assert "/predict" in answer.json()["error"]["allowed"]


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:9", "[::1]:9", "127.1.2.3", "a.localhost"]
)
def test_this_machine_has_several_names(client: Client, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["", "10.0.0.1", "127.0.0.1.example.com", "//[", "a:1@localhost"])
def test_other_names_are_refused(client: Client, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 403


@pytest.fixture
def held(model: Path) -> Iterator[tuple[Client, Service, threading.Event, threading.Event]]:
    """A service whose only worker waits in the middle of its work until it is let go."""
    with asked(model, workers=1, waiting=2, time_s=1.5) as (client, service):
        begun, go = threading.Event(), threading.Event()
        predictor = service.place.model.predictor
        answer = predictor.probabilities

        def slow(images: Any) -> Any:
            begun.set()
            assert go.wait(20)
            return answer(images)

        predictor.probabilities = slow  # type: ignore[method-assign]
        yield client, service, begun, go
        go.set()


def test_a_full_queue_says_when_to_come_again(held: Any) -> None:
    client, service, begun, go = held
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/predict", files=form(NOON))
        assert begun.wait(10)
        second = pool.submit(client.post, "/predict", files=form(NOON))
        while service.desk.waiting < 1:
            time.sleep(0.01)
        third = client.post("/predict", files=form(NOON))
        health = client.get("/health")
        go.set()
        assert (first.result().status_code, second.result().status_code) == (200, 200)
    assert third.status_code == 503
    assert int(third.headers["Retry-After"]) >= 1
    assert "busy with 2 requests" in third.json()["error"]["what"]
    assert health.status_code == 200
    assert client.post("/predict", files=form(NOON)).status_code == 200


def test_what_takes_too_long_is_given_up(held: Any) -> None:
    client, service, begun, go = held
    answer = client.post("/predict", files=form(NOON))
    go.set()

    assert answer.status_code == 503
    assert "within 1.5 s" in answer.json()["error"]["what"]
    assert "Retry-After" in answer.headers
    assert client.post("/predict", files=form(NOON)).status_code == 200


def test_a_body_that_does_not_arrive_is_not_waited_for(model: Path) -> None:
    with asked(model, time_s=0.4) as (client, _):
        where = urlsplit(client.address)
        with socket.create_connection((str(where.hostname), where.port or 0), 30) as connection:
            head = f"POST /predict HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: 90\r\n\r\n"
            connection.sendall(head.encode())
            with connection.makefile("rb") as answer:
                told = answer.readline()
    assert told.startswith(b"HTTP/1.1 408 ")


def test_a_request_of_many_slow_images_ends_in_time(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0

    def slow(data: bytes, max_px: int, limit: str, white: Any) -> Any:
        nonlocal decoded
        decoded += 1
        time.sleep(0.2)
        return np.zeros((8, 8, 1), np.uint8)

    monkeypatch.setattr("graftline.inference.serving.batching_queue.decode", slow)
    with asked(model, time_s=0.5) as (client, _):
        assert client.post("/predict", files=form(*[NOON] * 50)).status_code == 503
    assert decoded < 10


def test_a_fault_of_ours_is_told_without_a_traceback(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any) -> Any:
        raise RuntimeError("a secret of the inside")

    with asked(model) as (client, service):
        monkeypatch.setattr(service.place.model.predictor, "probabilities", fails)
        answer = client.post("/predict", files=form(NOON))
        monkeypatch.undo()
        assert answer.status_code == 500
        assert "fault in Graftline" in answer.json()["error"]["what"]
        assert "secret" not in answer.text
        assert client.post("/predict", files=form(NOON)).status_code == 200


def test_metrics_count_what_happened(model: Path) -> None:
    with asked(model) as (client, service):
        client.post("/predict", files=form(NOON, b"junk"))
        client.post("/predict", json={"images": []})
        client.get("/never/heard/of")
        text = client.get("/metrics").text
        count = service.counters.count
        assert count("graftline_requests_total", path="/predict", status="200") == 1
        assert count("graftline_requests_total", path="/predict", status="422") == 1
        assert count("graftline_requests_total", path="other", status="404") == 1
        assert count("graftline_images_total", outcome="answered") == 1
        assert count("graftline_images_total", outcome="refused") == 1
        assert count("graftline_request_seconds_count", path="/predict") == 2
    digest = service.place.model.version.weight_digest
    assert f'weight_digest="{digest}"' in text
    assert "graftline_requests_waiting 0.0" in text
    assert "graftline_requests_under_way 0.0" in text


def test_it_tells_how_it_is(client: Client, running: tuple[Any, Service]) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert client.get("/ready").json()["status"] == "ready"
    told = client.get("/model").json()
    assert (told["classes"], told["size_px"]) == (["dark", "bright"], 32)
    assert told["limits"]["images"] == 4
    assert told["drawings"] is False


def test_a_stopped_service_is_not_ready(model: Path) -> None:
    with asked(model) as (client, service):
        service.desk.close()
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        assert client.post("/predict", files=form(NOON)).status_code == 503


def test_the_description_for_programs_is_complete(client: Client) -> None:
    told = client.get("/openapi.json").json()

    assert set(told["paths"]) == {"/predict", "/health", "/ready", "/model", "/metrics"}
    predict = told["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert {"200", "400", "403", "408", "413", "415", "422", "503"} == set(predict["responses"])


def test_an_error_is_as_it_is_described(client: Client) -> None:
    told = client.get("/openapi.json").json()
    assert told["paths"]["/predict"]["post"]["responses"]["415"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Refused"}}
    }
    answer = client.post("/predict", data=b"7", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    Refused.model_validate(answer.json())


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_need_nothing_from_elsewhere(client: Client, path: str) -> None:
    answer = client.get(path)

    assert answer.headers["content-type"].startswith("text/html")
    assert re.findall(r"https?://|//[a-z]", re.sub(r"(?m)^\s*//.*|\s// .*", "", answer.text)) == []
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_for_people_tells_of_every_address(client: Client) -> None:
    text = client.get("/docs").text

    for path in client.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=300),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    JSON_VALUES.map(lambda value: json.dumps({"images": value}).encode()),
    st.lists(st.text(max_size=20) | st.binary(max_size=60).map(in_base64), max_size=6).map(
        lambda texts: json.dumps({"images": texts}).encode("utf-8", "surrogatepass")
    ),
    st.binary(max_size=200).map(
        lambda data: (
            b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
            + data
            + b"\r\n--x--\r\n"
        )
    ),
    st.binary(max_size=60).map(lambda data: b"--x\r\n" + data + b"\r\n\r\n\r\n--x--\r\n"),
)
KINDS = st.sampled_from(
    [
        "application/json",
        "application/json; charset=utf-16",
        "multipart/form-data; boundary=x",
        'multipart/form-data; boundary="x"; charset=nonsense',
        "multipart/form-data; boundary=",
        "multipart/form-data",
        "text/plain",
        "",
    ]
)


@settings(max_examples=60)
@given(body=BODIES, kind=KINDS)
def test_no_body_at_all_is_a_fault_of_ours(client: Client, body: bytes, kind: str) -> None:
    answer = client.post("/predict", data=body, headers={"Content-Type": kind})

    assert answer.status_code in REFUSALS, answer.text
    assert "Traceback" not in answer.text
    json.loads(answer.text)


@settings(max_examples=25)
@given(data=st.data())
def test_no_broken_image_is_a_fault_of_ours(client: Client, data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from(list(files_of_all_kinds().values()))))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(file)))
    answer = client.post("/predict", files=form(bytes(file[:cut]), bytes(file)))

    assert answer.status_code in (200, 422)
    assert len(answer.json()["predictions"]) == 2


def test_files_named_oddly_keep_their_names(client: Client) -> None:
    for name in ("ä ö.png", 'a"b.png', "<script>.png", "../../etc/passwd", "😀.png"):
        answer = client.post("/predict", files={"image": (name, NOON)})
        assert answer.status_code == 200
        assert answer.json()["predictions"][0]["label"] == "bright"


def test_a_name_that_is_no_utf_8_does_no_harm(client: Client) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="a"; filename="\xff\xfe"\r\n\r\n'
    body += NOON + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}

    assert client.post("/predict", data=body, headers=kind).status_code == 200


def test_pixels_of_every_kind_of_file_are_read(client: Client) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(file, "PNG")
    rows = client.post("/predict", files=form(file.getvalue())).json()["predictions"]

    assert rows[0]["label"] == "bright", "transparency is laid over white"
