"""Hostile input by kind, as hypothesis strategies: for the tests of all code that reads bytes.

``altered`` changes sound bytes; the others build what looks sound and is not.
"""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import cache

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image

from tests.hostile.case import Case
from tests.unit.data.loading import encoded, idx_images, idx_labels, pixels

# Numbers that counts, sizes and offsets go wrong at.
_EDGES = sorted({2**power + more for power in (0, 7, 8, 15, 16, 31, 32) for more in (-1, 0, 1)})


@st.composite
def altered(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Sound bytes after some changes: bytes, numbers, pieces doubled or gone, the end cut off."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        doing = draw(st.sampled_from(("byte", "number", "gone", "doubled", "inserted")))
        if doing == "byte":
            data[at] = draw(st.integers(0, 255))
        elif doing == "number":
            form = draw(st.sampled_from((">I", "<I", ">H", "<H", "<Q")))
            size = struct.calcsize(form)
            value = draw(st.sampled_from(_EDGES)) % (1 << 8 * size)
            data[at : at + size] = struct.pack(form, value)
        elif doing == "inserted":
            data[at:at] = draw(st.binary(max_size=16))
        else:
            piece = data[at : at + draw(st.integers(1, 64))]
            data[at : at + len(piece)] = b"" if doing == "gone" else piece * 2
    if draw(st.sampled_from((False, False, False, True))):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


# --- images ---------------------------------------------------------------------------------


@cache
def _image_seeds() -> tuple[bytes, ...]:
    grey, colour = pixels(1), pixels(1, (6, 8, 3))
    palette = Image.fromarray(colour).quantize(8)
    clear = Image.fromarray(pixels(1, (6, 8, 4)))
    frames = [Image.fromarray(pixels(number)) for number in (2, 3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds = [
        encoded(grey),
        encoded(clear, "PNG", exif=exif),
        encoded(palette, "PNG", transparency=1),
        encoded(grey.astype(np.uint16) * 257),
        encoded(colour, "JPEG", exif=exif),
        encoded(colour, "JPEG", progressive=True),
        encoded(Image.fromarray(colour).convert("CMYK"), "JPEG"),
        encoded(palette, "GIF"),
        encoded(frames[0], "GIF", save_all=True, append_images=frames),
        encoded(colour, "BMP"),
        encoded(palette, "BMP"),
        encoded(colour, "WEBP"),
        encoded(clear, "WEBP", lossless=True, exif=exif),
        encoded(frames[0].convert("RGB"), "WEBP", save_all=True, append_images=frames),
        encoded(grey.astype(np.float32), "TIFF"),
        encoded(grey.astype(np.int32), "TIFF"),
    ]
    for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        seeds.append(encoded(colour, "TIFF", compression=name))
    return tuple(seeds)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@st.composite
def _built_png(draw: st.DrawFn) -> bytes:
    """A PNG whose checksums are right, whatever else is not."""
    side = st.sampled_from((1, 6, 1000, 1001, *_EDGES))
    depth, colour = draw(st.sampled_from((1, 2, 4, 8, 16))), draw(st.sampled_from((0, 2, 3, 4, 6)))
    header = struct.pack(
        ">IIBBBBB", draw(side) % 2**31, draw(side) % 2**31, depth, colour, 0, 0,
        draw(st.sampled_from((0, 1))),
    )  # fmt: skip
    data = zlib.compress(bytes(draw(st.sampled_from((0, 100, 1_000_000)))))
    more = draw(
        st.lists(
            st.tuples(
                st.sampled_from((b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"eXIf", b"acTL")),
                st.binary(max_size=40)
                | st.just(b"k\0\0" + zlib.compress(bytes(3_000_000)))
                | st.just(b"k\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
            ),
            max_size=3,
        )
    )
    chunks = [_chunk(b"IHDR", header), *(_chunk(*one) for one in more), _chunk(b"IDAT", data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


@st.composite
def _built_tiff(draw: st.DrawFn) -> bytes:
    """A TIFF of tags that fit each other or do not."""
    value = st.sampled_from((0, 1, 2, 3, 5, 8, 16, 32, 1000, 1001, *_EDGES))
    tags = sorted(draw(st.dictionaries(
        st.sampled_from((256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323,
                         324, 325, 338, 339, 347)),
        st.tuples(st.sampled_from((1, 3, 4, 5, 12)), st.sampled_from((0, 1, 3, 2**16, 2**31)),
                  value),
        min_size=4, max_size=16,
    )).items())  # fmt: skip
    directory = struct.pack("<H", len(tags))
    for tag, (kind, count, number) in tags:
        directory += struct.pack("<HHII", tag, kind, count, number % 2**32)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + bytes(64)


@st.composite
def _large(draw: st.DrawFn) -> bytes:
    """Files that say that they are larger than allowed, or nearly so."""
    side = draw(st.sampled_from((999, 1000, 1001, 16_383, 65_535)))
    kind = draw(st.sampled_from(("BMP", "GIF", "WEBP", "JPEG")))
    if kind == "BMP":
        data = encoded(pixels(1), "BMP")
        return data[:18] + struct.pack("<ii", side, -side) + data[26:]
    if kind == "GIF":
        data = encoded(pixels(1), "GIF")
        size = struct.pack("<HH", side, side)
        at = data.index(b",", 13)
        return data[: at + 5] + size + data[at + 9 :]
    if kind == "JPEG":
        data = encoded(pixels(1), "JPEG")
        at = data.index(b"\xff\xc0")
        return data[: at + 5] + struct.pack(">HH", side, side) + data[at + 9 :]
    frame = encoded(pixels(1, (6, 8, 3)), "WEBP", lossless=True)[12:]
    canvas = struct.pack("<I", side - 1)[:3] * 2
    body = b"WEBPVP8X" + struct.pack("<IB3x", 10, 0) + canvas + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


def images() -> st.SearchStrategy[bytes]:
    """Image files, sound and unsound."""
    return st.one_of(
        altered(_image_seeds()), _built_png(), _built_tiff(), _large(), st.binary(max_size=100)
    )


def image_cases() -> st.SearchStrategy[Case]:
    return images().map(lambda data: Case("image", {"image": data}))


@cache
def _sound_images() -> dict[str, bytes]:
    """Enough images of two classes to be split, each another."""
    return {
        f"{label}/{at}.png": encoded(pixels(at + 20 * (label == "dog")))
        for label in ("cat", "dog")
        for at in range(20)
    }


@st.composite
def folder_cases(draw: st.DrawFn) -> Case:
    """A folder of images with odd names."""
    name = st.sampled_from(
        ("a.png", "=1+1.png", "\x1b[31m.png", "\n.png", "é.png", "e\u0301.png", ".hidden", "a b",
         "%s{}$(x).png", "\u202egnp.exe", "-rf", "x" * 200)
    )  # fmt: skip
    label = st.sampled_from(("cat", "dog", "train", "test", "=cmd", "\x07", "${x}", "ﬁ", "fi"))
    places = draw(st.lists(st.tuples(label, name), min_size=2, max_size=8, unique=True))
    content = st.one_of(images(), st.sampled_from(_image_seeds()))
    odd = {f"source/{a}/{b}": draw(content) for a, b in places}
    if draw(st.booleans()):
        return Case("folder", odd)
    # One among enough sound ones, which the step would take without it.
    one = draw(st.sampled_from(sorted(odd)))
    sound = {f"source/{name}": data for name, data in _sound_images().items()}
    return Case("folder", {**sound, one: odd[one]})


# --- arrays ---------------------------------------------------------------------------------


@st.composite
def idx_cases(draw: st.DrawFn) -> Case:
    """IDX files, plain or gzipped, with headers that lie."""
    files: dict[str, bytes] = {}
    for prefix in draw(st.sampled_from((("train",), ("train", "t10k")))):
        stack = np.stack([pixels(number, (2, 3)) for number in range(20)])
        if prefix == "t10k":
            stack = stack[::-1, ::-1]
        pair = {
            f"source/{prefix}-images-idx3-ubyte": idx_images(stack),
            f"source/{prefix}-labels-idx1-ubyte": idx_labels(np.arange(20, dtype=np.uint8) % 2),
        }
        for name, data in pair.items():
            doing = draw(st.sampled_from(("sound", "altered", "header", "zeros")))
            if doing == "header":
                numbers = [draw(st.sampled_from(_EDGES)) % 2**32 for _ in range(3)]
                data = data[:4] + struct.pack(">3I", *numbers) + data[16:]
            if doing == "zeros":
                data += bytes(draw(st.sampled_from((1, 1 << 16, 1 << 23))))
            if draw(st.booleans()):
                name, data = f"{name}.gz", gzip.compress(data, 1, mtime=0)
            if doing == "altered":
                data = draw(altered([data]))
            files[name] = data
    return Case("idx", files)


_SHAPES = st.lists(st.sampled_from((0, 1, 2, 3, 40, 2**31, 2**63, -1)), max_size=5).map(tuple)
_DTYPES = st.sampled_from(
    ("|u1", "|i1", "<i8", ">u2", "<f8", "<U3", "<U100000000", "|S5", "|O", "<M8[s]", "|V4", "|b1")
)


@st.composite
def _npy(draw: st.DrawFn) -> bytes:
    """An array file whose header may say anything."""
    header = {"descr": draw(_DTYPES), "fortran_order": draw(st.booleans()), "shape": draw(_SHAPES)}
    text = draw(st.just(repr(header)) | st.sampled_from(("", "{", "(" * 500, "[]", "{}" * 10)))
    version = draw(st.sampled_from((b"\1\0", b"\2\0", b"\3\0", b"\4\0")))
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    data = b"\x93NUMPY" + version + size + text.encode()
    return data + bytes(draw(st.sampled_from((0, 100, 10_000, 5_000_000))))


def _saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@st.composite
def npz_cases(draw: st.DrawFn) -> Case:
    """Archives whose members, names and checks may be wrong."""
    images_ = _saved(np.stack([pixels(number, (2, 3)) for number in range(20)]))
    labels = _saved(np.arange(20) % 2)
    names = draw(st.sampled_from((("images", "labels"), ("x_train", "y_train"), ("images", "x"))))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw(st.sampled_from((0, 8, 12, 14)))) as archive:
        for name, sound in zip(names, (images_, labels), strict=True):
            member = draw(st.sampled_from((f"{name}.npy", f"{name}.npy", f"../{name}.npy", name)))
            archive.writestr(member, draw(st.one_of(st.just(sound), _npy(), altered([sound]))))
    whole = file.getvalue()
    return Case("npz", {"source/set.npz": draw(st.just(whole) | altered([whole]))})


# --- tables ---------------------------------------------------------------------------------

_CELLS = st.sampled_from(
    ("a.png", "b.png", "c.png", "sub/d.png", "", " ", "../../etc/passwd", "/etc/passwd", "..",
     "=cmd|' /C calc'!A0", "@SUM(1)", "\0", "a\0.png", "\x1b]0;x\x07", "\ufeff", "ü", "a" * 5000,
     "~", "C:\\x", "sub", "sub/../a.png", "./a.png", "loop/loop/loop", "\n", '"', "cat", "dog",
     "train", "TEST ", "val", "holdout", "NaN", "1e999", "x" * 200_000)
)  # fmt: skip


@st.composite
def manifest_cases(draw: st.DrawFn) -> Case:
    """Tables, CSV or Parquet, with columns, cells and encodings of all kinds."""
    files = {f"source/{name}": encoded(pixels(at)) for at, name in
             enumerate(("a.png", "b.png", "c.png", "sub/d.png"))}  # fmt: skip
    sound = st.sampled_from((("path", "label"), ("path", "label", "split")))
    odd = st.lists(st.sampled_from(("path", "label", "split", "x", "", "Path")), max_size=5)
    header = list(draw(sound | odd))
    rows = draw(st.lists(st.lists(_CELLS, min_size=len(header), max_size=len(header)), max_size=6))
    if {"path", "label"} <= set(header) and draw(st.booleans()):
        # Among enough sound ones, which the step would take without the odd ones.
        files |= {f"source/{name}": data for name, data in _sound_images().items()}
        rows = [
            [{"path": name, "label": name.partition("/")[0]}.get(of, "") for of in header]
            for name in _sound_images()
        ] + rows[: draw(st.integers(0, 1))]
    if draw(st.booleans()):
        encoding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-32")))
        lines = [",".join(header), *(",".join(f'"{cell}"' for cell in row) for row in rows)]
        text = draw(st.sampled_from(("\n", "\r\n", "\r"))).join(lines)
        data = text.encode(encoding, "replace")
        files["source/table.csv"] = draw(st.just(data) | altered([data]))
        return Case("manifest", files, ["table.csv"])
    kind = draw(st.sampled_from((pa.string(), pa.large_string(), pa.binary(), pa.int64())))
    columns = [
        pa.array(range(len(rows)) if pa.types.is_integer(kind) else
                 [row[at].encode() if pa.types.is_binary(kind) else row[at] for row in rows], kind)
        for at in range(len(header))
    ]  # fmt: skip
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, header), file)
    whole = file.getvalue()
    files["source/table.parquet"] = draw(st.just(whole) | altered([whole]))
    return Case("manifest", files, ["table.parquet"])


# --- parameters and command lines -------------------------------------------------------------

_SCALARS = st.sampled_from(
    ("0", "1", "-1", "3", "1e-3", "1e999", ".inf", ".nan", "-.inf", "null", "~", "true", "yes",
     "''", "text", "mnist-5k", "folder", "stanford-dogs", "random", "all", "auto", "last_blocks: 2",
     "'last_blocks: ²'", "2001-01-01", "2001-99-99", "12:30:45", "0x" + "f" * 5000, "9" * 5000,
     "!!binary aGk=", "!!python/object/apply:os.system [x]", "!!set {a, b}", "!!float x", "!x y",
     "'\\0'", '"\\0"', '"\\ud800"', '"\\e[31m"', "../../..", "https://u:p@host/x.h5", "${x}",
     "{}", "[]", "[256, 128]", "{a: 1}", "{1: 2}", "*a", "&a 1", "&a [*a]", "<<", "'" + "x" * 9000 +
     "'", "|\n    text", "{seconds: 5}", "0.5", "MobileNetV2", "1.0")
)  # fmt: skip
_KEYS = st.sampled_from(
    ("seed", "data", "source", "path", "backbone", "weights", "alpha", "freeze", "strategy",
     "train", "epochs", "learning_rate", "tune", "register", "register_", "model_name", "head",
     "units", "1", "true", "null", "''", "<<", "? [a]", "a.b", "données", "x" * 300, "budget",
     "last_blocks")
)  # fmt: skip
_SOUND = """\
seed: 0  # of every choice
data: &data
  source: mnist-5k
backbone: {weights: random, alpha: 1.0}
freeze: {strategy: all}
train: {epochs: 3}
"""
_WORDS = (
    "train.epochs=3", "freeze.strategy=all", "freeze.strategy.last_blocks=2", "seed=1", "=", "x",
    "a=b", ".=1", "..=", "data.source=mnist-5k", "data.path=null", "backbone.weights=random",
    "head.units=[]", "freeze.strategy=last_blocks: 2", "seed.seed.seed=1", "data={}", "data=*data",
    "register.model_name=\x1b", "data.path=\0", "data.path=\udcff", "train={epochs: 4}", "seed=",
    "freeze.strategy={last_blocks: 2}", "tune.epochs=[[[", "train.epochs=&a 3", "données=é",
    "data.path=/dev/null", "data.source=folder", "train.epochs=" + "[" * 3000, "seed=!!int x",
)  # fmt: skip


@st.composite
def _yaml(draw: st.DrawFn, depth: int = 2) -> str:
    lines = []
    for key in draw(st.lists(_KEYS, max_size=5, unique=True)):
        if depth and draw(st.booleans()):
            below = draw(_yaml(depth - 1))
            lines += [f"{key}:", *(f"  {line}" for line in below.splitlines())]
        else:
            lines.append(f"{key}: {draw(_SCALARS)}")
    return "\n".join(lines) + "\n"


@st.composite
def _sections(draw: st.DrawFn) -> str:
    """The right sections and keys with wrong values."""
    from graftline.core.params import Params

    lines = []
    for name, field in Params.model_fields.items():
        keys = getattr(field.annotation, "model_fields", {})
        chosen = (
            draw(st.lists(st.sampled_from(sorted(keys)), max_size=2, unique=True)) if keys else []
        )
        if chosen:
            lines.append(f"{field.alias or name}:")
            lines += [f"  {key}: {draw(_SCALARS)}" for key in chosen]
    return "\n".join(lines) + "\n"


def _laughs(levels: int, form: str) -> str:
    lines = [f"a0: &a0 {form.format('1, 1')}"]
    for level in range(1, levels):
        again = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} {form.format(again)}")
    return "\n".join(lines) + "\n"


def _merged(levels: int) -> str:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        again = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} {{<<: [{again}]}}")
    return "\n".join(lines) + "\n"


LAUGHS = _laughs(12, "[{}]")
MERGED_LAUGHS = _merged(12)


def params_cases() -> st.SearchStrategy[Case]:
    """``params.yaml`` and overrides of all kinds."""
    deep = st.tuples(st.sampled_from(("[", "{a: ", "- ", "a:\n ", "? ")), st.integers(1, 3000))
    text = st.one_of(
        st.just(_SOUND),
        _yaml(),
        _sections(),
        st.tuples(st.just(_SOUND), _yaml()).map("".join),
        altered([_SOUND.encode()]).map(lambda data: data.decode("latin-1")),
        deep.map(lambda one: one[0] * one[1]),
        st.sampled_from(
            (LAUGHS, MERGED_LAUGHS, "", "# nothing\n", "--- 1\n--- 2\n", "%YAML 9.9\n")
        ),
        st.text(max_size=100),
    )
    data = text.map(lambda one: one.encode("utf-8", "surrogatepass"))
    words = st.lists(st.sampled_from(_WORDS), max_size=4)
    return st.builds(
        lambda one, more: Case("params", {"params.yaml": one}, more),
        data | altered([_SOUND.encode()]),
        words,
    )


@st.composite
def command_cases(draw: st.DrawFn) -> Case:
    """Command lines of ``graftline``. ``ui`` is left out: it starts servers when it is asked to."""
    # --debug shows tracebacks on purpose.
    first = ("load", "preprocess", "freeze", "predict", "schema", "", "-", "--version", "x")
    word = st.sampled_from(
        ("--json", "--top", "-5", "1e9", "999999999999", "--model", "@", "@/image", "@/none",
         "@/model", "--debug=1", "-C", "@/\udcff", "@/\0", "@/" + "x" * 5000, "@/**[", "@/a**b",
         "@/[", "@/*", "", "-", "--", "\0", "\udcff", "\x1b[2J", "=1+1", "/dev/zero", "@/fifo",
         "--help", "--unknown", "@/source")
    )  # fmt: skip
    reading = st.tuples(
        st.just("predict"),
        st.sampled_from(("--json", "--top=2", "--top=-1", "--top=0")),
        st.sampled_from(("--model=@/model", "--model=@/none", "-C@")),
    )
    start = draw(st.tuples(st.sampled_from(first)) | reading)
    words = [*start, *draw(st.lists(word, max_size=4))]
    files = {
        "image": draw(images()),
        "source/a/a.png": encoded(pixels(1)),
        "params.yaml": draw(st.sampled_from((_SOUND.encode(), b"", b"\xff", LAUGHS.encode()))),
        "model/trained.json": draw(st.sampled_from((b"", b"{}", b"\xff\xfe", b"[" * 5000))),
        "model/model.tflite": b"TFL3" * 10,
    }
    return Case("command", files, words)


# --- weights --------------------------------------------------------------------------------


@cache
def _h5_seeds() -> tuple[bytes, ...]:
    seeds = []
    for options in ({}, {"compression": "gzip", "chunks": True}):
        file = io.BytesIO()
        with h5py.File(file, "w") as weights:
            for name in ("Conv1", "bn_Conv1"):
                group = weights.create_group(f"{name}/{name}")
                group.attrs["weight_names"] = [b"kernel:0"]
                group.create_dataset("kernel:0", data=np.ones((3, 3, 4), np.float32), **options)
        seeds.append(file.getvalue())
    return tuple(seeds)


def hdf5_cases() -> st.SearchStrategy[Case]:
    return altered(_h5_seeds()).map(lambda data: Case("hdf5", {"weights.h5": data}))


def weights_cases(seeds: Sequence[tuple[str, bytes]]) -> st.SearchStrategy[Case]:
    """Altered weights files of a real backbone, by the name's ending."""
    return st.sampled_from(seeds).flatmap(
        lambda seed: altered([seed[1]]).map(
            lambda data: Case("weights", {seed[0]: data}, [seed[0]])
        )
    )


def http_bodies() -> st.SearchStrategy[bytes]:
    """Bodies for a service that takes images as JSON in base64, or as a form with files."""
    import base64

    picture = images()
    text = picture.map(lambda data: base64.b64encode(data).decode())
    value = st.one_of(
        text, st.text(max_size=40), st.none(), st.integers(), st.lists(text, max_size=3)
    )
    key = st.sampled_from(("images", "image", "data", "", "__proto__", "x" * 1000))
    import json

    records = st.dictionaries(key, value | st.lists(value, max_size=3), max_size=3)
    sound = records.map(lambda record: json.dumps(record).encode())
    odd = st.sampled_from((b"", b"{", b"[" * 100_000, b"\xff\xfe", b'{"images": NaN}', b"null"))
    form = picture.map(
        lambda data: (
            b'--x\r\nContent-Disposition: form-data; name="images"; filename="../a\\0.png"'
            b"\r\nContent-Type: image/png\r\n\r\n" + data + b"\r\n--x--\r\n"
        )
    )
    return st.one_of(sound, odd, form, sound.flatmap(lambda body: altered([body])), picture)
