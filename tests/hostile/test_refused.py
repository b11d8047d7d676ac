"""Files made to do harm: each is refused, by its own reason, and nothing of it is carried out."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from graftline.core.errors import DataError, UserError, WeightsError
from graftline.data.decoding import decode, read_file
from graftline.data.sources import folder, idx, manifest, npz, tables
from graftline.network.h5_safety import refuse_hostile
from tests.unit.data.loading import encoded, idx_images, idx_labels, pixels, write_folder

MAX_PX = 1_000_000
SECRET = b"root:x:0:0:the secret"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that is none of the source's business, and would pass for an image."""
    path = tmp_path / "outside" / "secret.png"
    path.parent.mkdir()
    path.write_bytes(encoded(pixels(99)))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    write_folder(root, {"cat": 2, "dog": 2})
    return root


def said(raising: Callable[[], object], kind: type[UserError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        raising()
    assert caught.value.exit_code == 2
    return str(caught.value)


# --- pickles ------------------------------------------------------------------------------------


class Payload:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.touched),)


def test_a_pickle_in_an_npz_is_never_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    array = np.array([Payload(touched), None], object)
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 2, 2), np.uint8), labels=array)
    text = said(lambda: npz.catalog(tmp_path / "set.npz", tmp_path, MAX_PX))
    assert "holds Python objects, which would have to be unpickled" in text
    assert not touched.exists()
    # What was refused is a loaded gun, not a blank.
    pickle.loads(pickle.dumps(Payload(touched)))
    assert touched.exists()


# --- bombs --------------------------------------------------------------------------------------


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_png_of_billions_of_pixels() -> None:
    bomb = png(65_000, 65_000, zlib.compress(bytes(1_000_000)))
    assert "has 65000 x 65000 = 4225000000 pixels" in said(lambda: decode(bomb, 50_000_000))


def test_a_png_whose_data_go_on_for_ever() -> None:
    endless = png(10, 10, zlib.compress(bytes(20_000_000), 1))
    # The decoder takes the hundred pixels that it was promised, and no more.
    assert decode(endless, MAX_PX).shape == (10, 10, 1)


def idx_folder(root: Path, images: bytes, labels: bytes) -> Path:
    root.mkdir()
    (root / "train-images-idx3-ubyte.gz").write_bytes(images)
    (root / "train-labels-idx1-ubyte.gz").write_bytes(labels)
    return root


def test_a_gzipped_idx_of_terabytes_of_zeros(tmp_path: Path) -> None:
    count, side = 2_000_000, 1000
    images = gzip.compress(struct.pack(">4I", 0x803, count, side, side) + bytes(1 << 20))
    labels = gzip.compress(struct.pack(">2I", 0x801, count) + bytes(count))
    root = idx_folder(tmp_path / "idx", images, labels)
    assert "to 2000000000000 bytes, as decompression bombs do" in said(
        lambda: idx.catalog(root, MAX_PX)
    )


def test_an_idx_of_more_images_than_memory_has_room_for(tmp_path: Path) -> None:
    count = 50_000_000
    images = gzip.compress(struct.pack(">4I", 0x803, count, 1, 1))
    root = idx_folder(tmp_path / "idx", images, b"never read")
    text = said(lambda: idx.catalog(root, MAX_PX, 2_000_000))
    assert "tells of 50000000 images, more than 2000000 (data.max_images)" in text


def test_zeros_that_follow_an_idx_are_not_unpacked(tmp_path: Path) -> None:
    stack = np.stack([pixels(number) for number in range(2)])
    images = gzip.compress(idx_images(stack) + bytes(20_000_000), 1)
    labels = gzip.compress(idx_labels(np.arange(2, dtype=np.uint8)))
    catalog = idx.catalog(idx_folder(tmp_path / "idx", images, labels), MAX_PX)
    assert "it is too long: data follow" in said(lambda: list(catalog.samples()))


def sparse_zip(path: Path, size_bytes: int) -> None:
    """An archive of two arrays of zeros that shrink a thousandfold."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, shape in (("images", (size_bytes // 10_000, 100, 100)), ("labels", (2,))):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            with archive.open(f"{name}.npy", "w") as member:
                member.write(header.getvalue())
                for _ in range(size_bytes >> 20 if name == "images" else 0):
                    member.write(bytes(1 << 20))


def test_an_npz_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graftline.data.sources import limits

    monkeypatch.setattr(limits, "_SUSPECT_BYTES", 16 << 20)
    sparse_zip(tmp_path / "set.npz", 20 << 20)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    text = said(lambda: npz.catalog(tmp_path / "set.npz", scratch, MAX_PX))
    assert "as decompression bombs do" in text
    assert not list(scratch.iterdir())


def test_an_npz_whose_directory_lies_about_its_sizes(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez_compressed(path, images=np.zeros((200, 100, 100), np.uint8), labels=np.arange(200))
    data = bytearray(path.read_bytes())
    # The sizes in the directory at the end are what is believed before anything is unpacked.
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 1000)
    path.write_bytes(data)
    assert "cannot be read as an npz archive" in said(lambda: npz.catalog(path, tmp_path, MAX_PX))
    assert max(file.stat().st_size for file in tmp_path.glob("*.npy")) <= 1000


# --- ways out of the source ---------------------------------------------------------------------


def test_members_of_an_npz_that_lead_out(tmp_path: Path) -> None:
    scratch = tmp_path / "deep" / "scratch"
    scratch.mkdir(parents=True)
    path = tmp_path / "deep" / "set.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../../images.npy", "/tmp/labels.npy", "..\\x.npy"):
            archive.writestr(name, b"x")
    assert "lacks" in said(lambda: npz.catalog(path, scratch, MAX_PX))
    assert not list(scratch.iterdir()) and not (tmp_path / "images.npy").exists()


@pytest.mark.parametrize("path", ["../outside/secret.png", "a/../../outside/secret.png"])
def test_a_manifest_that_leads_out(source: Path, outside: Path, path: str) -> None:
    (source / "a").mkdir()
    (source / "table.csv").write_text(f"path,label\n{path},x\n")
    text = said(lambda: manifest.catalog(source, "table.csv", MAX_PX))
    assert "leads out of the source" in text


def test_a_manifest_of_absolute_paths(source: Path, outside: Path) -> None:
    (source / "table.csv").write_text(f"path,label\n{outside},x\n")
    text = said(lambda: manifest.catalog(source, "table.csv", MAX_PX))
    assert "is absolute; paths are relative to the table's folder" in text


def test_a_table_that_is_a_link_out_of_the_source(source: Path, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_bytes(b"path,label\n" + SECRET + b",x\n")
    (source / "table.csv").symlink_to(tmp_path / "passwd")
    text = said(lambda: manifest.catalog(source, "table.csv", MAX_PX))
    assert "leads out of the source" in text
    assert SECRET.decode() not in text


def link_image(source: Path, outside: Path) -> None:
    (source / "cat" / "link.png").symlink_to(outside)


def link_folder(source: Path, outside: Path) -> None:
    (source / "cat" / "more").symlink_to(outside.parent)


def link_class(source: Path, outside: Path) -> None:
    (source / "bird").symlink_to(outside.parent)


@pytest.mark.parametrize("linked", [link_image, link_folder, link_class])
def test_a_folder_with_a_link_out(
    source: Path, outside: Path, linked: Callable[[Path, Path], None]
) -> None:
    linked(source, outside)
    assert "leads out of the source" in said(lambda: folder.catalog(source, MAX_PX))


def test_a_manifest_through_a_linked_folder(source: Path, outside: Path) -> None:
    link_folder(source, outside)
    (source / "table.csv").write_text("path,label\ncat/more/secret.png,x\n")
    text = said(lambda: manifest.catalog(source, "table.csv", MAX_PX))
    assert "leads out of the source" in text


def test_idx_files_that_are_links_out(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(gzip.compress(idx_labels(np.arange(2, dtype=np.uint8))))
    root = idx_folder(tmp_path / "idx", b"", b"")
    (root / "train-labels-idx1-ubyte.gz").unlink()
    (root / "train-labels-idx1-ubyte.gz").symlink_to(tmp_path / "kept")
    assert "leads out of the source" in said(lambda: idx.catalog(root, MAX_PX))


def replace_image(source: Path, outside: Path) -> None:
    (source / "cat" / "0.png").unlink()
    (source / "cat" / "0.png").symlink_to(outside)


def replace_folder(source: Path, outside: Path) -> None:
    (source / "cat").rename(source.parent / "away")
    (outside.parent / "0.png").write_bytes(outside.read_bytes())
    (source / "cat").symlink_to(outside.parent)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what was opened")
@pytest.mark.parametrize("replaced", [replace_image, replace_folder])
def test_a_link_put_there_after_the_check(
    source: Path, outside: Path, replaced: Callable[[Path, Path], None]
) -> None:
    catalog = folder.catalog(source, MAX_PX)
    replaced(source, outside)
    first = next(catalog.samples())
    assert first.name == "cat/0.png"
    assert getattr(first, "reason", None) == "leads out of the source"


def test_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        assert said(lambda path=path: read_file(path, MAX_PX)) == "is no regular file"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what was opened")
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_that_became_a_link_out(source: Path, tmp_path: Path, ending: str) -> None:
    outside = tmp_path / f"outside.{ending}"
    outside.write_bytes(SECRET + b"\n")
    (source / f"manifest.{ending}").symlink_to(outside)
    # The look at the path, which comes before, refuses it too: this is the opening alone.
    rows = tables.cells(source / f"manifest.{ending}", ("path",), within=source)
    text = said(lambda: list(rows))
    assert f"manifest.{ending} leads out of the source" in text
    assert "secret" not in text


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what was opened")
def test_an_idx_file_that_became_a_link_out(tmp_path: Path) -> None:
    stack = np.stack([pixels(number) for number in range(2)])
    labels = gzip.compress(idx_labels(np.arange(2, dtype=np.uint8)))
    root = idx_folder(tmp_path / "idx", gzip.compress(idx_images(stack)), labels)
    catalog = idx.catalog(root, MAX_PX)
    images = root / "train-images-idx3-ubyte.gz"
    images.rename(tmp_path / "outside.gz")
    images.symlink_to(tmp_path / "outside.gz")
    text = said(lambda: list(catalog.samples()))
    assert "train-images-idx3-ubyte.gz leads out of the source" in text


def test_pipes_in_the_place_of_a_table_or_an_archive_are_not_waited_for(tmp_path: Path) -> None:
    for name in ("set.npz", "table.csv", "table.parquet"):
        os.mkfifo(tmp_path / name)
    assert "set.npz is no regular file" in said(
        lambda: npz.catalog(tmp_path / "set.npz", tmp_path, MAX_PX)
    )
    for name in ("table.csv", "table.parquet"):
        text = said(lambda name=name: list(tables.cells(tmp_path / name, ("path",))))
        assert f"{name} is no regular file" in text


# --- weights ------------------------------------------------------------------------------------


def external_link(file: h5py.File, other: Path) -> None:
    file["a"] = h5py.ExternalLink(str(other), "/secret")


def soft_link(file: h5py.File, other: Path) -> None:
    file["b"] = np.ones(3)
    file["a"] = h5py.SoftLink("/b")


def external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("a", (3,), "u1", external=[(str(other), 0, 3)])


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((3,), "u1")
    layout[:] = h5py.VirtualSource(str(other), "secret", (3,))
    file.create_virtual_dataset("a", layout)


@pytest.mark.parametrize("built", [external_link, soft_link, external_storage, virtual])
def test_weights_that_point_elsewhere(
    tmp_path: Path, built: Callable[[h5py.File, Path], None]
) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.arange(3, dtype=np.uint8)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        built(file.create_group("layer"), tmp_path / "other.h5") if built is not soft_link else (
            built(file, tmp_path)
        )
    text = said(lambda: refuse_hostile(tmp_path / "weights.h5"), WeightsError)
    assert "the file points elsewhere for its values" in text


def never_written(file: h5py.File) -> None:
    file.create_dataset("a", (1 << 40,), "f4", chunks=(1 << 16,), fillvalue=1.0)


def shrunk(file: h5py.File) -> None:
    file.create_dataset("a", data=np.zeros(24 << 20, "u1"), compression="gzip", chunks=(1 << 20,))


def one_long_text(file: h5py.File) -> None:
    """A thousand references to texts, any of which may lead to the long one."""
    file.create_dataset("a", (1000,), h5py.string_dtype())[0] = "x" * 100_000


def one_long_text_in_a_list(file: h5py.File) -> None:
    file.attrs.create("a", ["x" * 100_000] + [""] * 999, dtype=h5py.string_dtype())


@pytest.mark.parametrize("built", [never_written, shrunk, one_long_text, one_long_text_in_a_list])
def test_weights_that_unpack_to_more_than_they_are(
    tmp_path: Path, built: Callable[[h5py.File], None]
) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        built(file)
    text = said(lambda: refuse_hostile(tmp_path / "weights.h5"), WeightsError)
    assert "as decompression bombs do" in text


def test_a_few_bytes_may_stand_for_a_long_text_a_thousand_times(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        one_long_text(file)
        start = file["a"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[start : start + 16_000] = data[start : start + 16] * 1000
    path.write_bytes(data)
    with h5py.File(path) as file:
        assert sum(map(len, file["a"][...])) > 800 * len(data)


def a_group_within_itself(file: h5py.File) -> None:
    file.create_group("a")["again"] = file["/"]


def a_type_with_a_name(file: h5py.File) -> None:
    file["a"] = np.dtype("f4")


@pytest.mark.parametrize("built", [a_group_within_itself, a_type_with_a_name])
def test_weights_built_as_none_are(tmp_path: Path, built: Callable[[h5py.File], None]) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        built(file)
    text = said(lambda: refuse_hostile(tmp_path / "weights.h5"), WeightsError)
    assert "the file is built as no weights file is" in text


# --- addresses ----------------------------------------------------------------------------------


def test_a_password_in_the_address_of_the_weights_is_refused_and_not_repeated() -> None:
    from graftline.core.errors import ParamsError
    from graftline.core.params import params_from_record

    record = {
        "data": {"source": "mnist-5k"},
        "backbone": {"weights": "https://me:canary@host/w.h5", "weights_sha256": "0" * 64},
    }
    words = "params.yaml --set backbone.weights=https://me:canary@host/w.h5"
    text = said(lambda: params_from_record(record, words), ParamsError)
    assert "put them into ~/.netrc" in text
    assert "canary" not in text and "me:" not in text
