from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graftline.core.errors import MissingOutputError
from graftline.data.shards import FILE, RAW, PackedImages, ShardWriter, write_manifest
from tests.unit.data.loading import contents, encoded, pixels


def pack(folder, images, *, splits=None, files=(), shard_bytes=1 << 20, labels=None):
    """Packs images; those whose number is in ``files`` as PNG."""
    folder.mkdir(exist_ok=True)
    with ShardWriter(folder, shard_bytes) as shards:
        places = [
            shards.append(
                encoded(image if image.shape[2] == 3 else image[..., 0])
                if number in files
                else image.tobytes()
            )
            for number, image in enumerate(images)
        ]
    count = len(images)
    write_manifest(
        folder,
        {
            "sha256": [f"{number:064x}" for number in range(count)],
            "label": labels or [number % 3 for number in range(count)],
            "class": ["é" * (number % 3) for number in range(count)],
            "split": splits or ["train"] * count,
            "source": [f"image {number}" for number in range(count)],
            "encoding": [FILE if number in files else RAW for number in range(count)],
            "shard": [place[0] for place in places],
            "offset": [place[1] for place in places],
            "length": [place[2] for place in places],
            "height": [image.shape[0] for image in images],
            "width": [image.shape[1] for image in images],
            "channels": [image.shape[2] for image in images],
        },
    )
    return PackedImages.open(folder)


def stack(count, shape=(4, 5, 1)):
    return [pixels(number, shape) for number in range(count)]


def test_columns_come_back(tmp_path):
    packed = pack(tmp_path / "p", stack(3), splits=["train", "test", "train"])
    assert len(packed) == 3
    assert packed.labels.dtype == np.int32
    assert packed.labels.tolist() == [0, 1, 2]
    assert packed.splits.tolist() == ["train", "test", "train"]
    assert packed.names.tolist() == ["image 0", "image 1", "image 2"]
    assert packed.hashes[2] == f"{2:064x}"
    assert packed.uniform_shape == (4, 5, 1)


def test_indices_of_a_split_keep_the_order(tmp_path):
    packed = pack(tmp_path / "p", stack(4), splits=["train", "test", "train", "validation"])
    assert packed.indices("train").dtype == np.int64
    assert packed.indices("train").tolist() == [0, 2]
    assert packed.indices("validation").tolist() == [3]


def test_a_batch_takes_indices_in_any_order(tmp_path):
    images = stack(10)
    packed = pack(tmp_path / "p", images)
    batch = packed.batch([7, 0, 7, 3])
    np.testing.assert_array_equal(batch, np.stack([images[index] for index in (7, 0, 7, 3)]))


def test_a_batch_across_shards(tmp_path):
    images = stack(10)
    packed = pack(tmp_path / "p", images, shard_bytes=3 * 20)
    assert len(list((tmp_path / "p").glob("images-*.bin"))) == 4
    np.testing.assert_array_equal(packed.batch(np.arange(9, -1, -1)), np.stack(images[::-1]))


def test_an_image_larger_than_a_shard_has_its_own(tmp_path):
    images = [pixels(0, (2, 2, 1)), pixels(1, (9, 9, 3)), pixels(2, (2, 2, 1))]
    packed = pack(tmp_path / "p", images, shard_bytes=10)
    for number, image in enumerate(images):
        np.testing.assert_array_equal(packed.image(number), image)


def test_files_are_decoded_when_read(tmp_path):
    images = stack(4, (4, 5, 3))
    packed = pack(tmp_path / "p", images, files={1, 2})
    np.testing.assert_array_equal(packed.image(1), images[1])
    np.testing.assert_array_equal(packed.batch([0, 1, 2, 3]), np.stack(images))


def test_images_of_two_shapes_are_no_batch(tmp_path):
    packed = pack(tmp_path / "p", [pixels(0, (4, 5, 1)), pixels(1, (5, 4, 1))])
    assert packed.uniform_shape is None
    with pytest.raises(ValueError, match="differ in shape"):
        packed.batch([0, 1])


def test_an_empty_batch_of_uniform_images(tmp_path):
    packed = pack(tmp_path / "p", stack(2))
    assert packed.batch([]).shape == (0, 4, 5, 1)


def test_uniform_batches_are_consecutive_runs(tmp_path):
    images = stack(7)
    packed = pack(tmp_path / "p", images)
    found = list(packed.batches([6, 5, 4, 3, 2], 2))
    assert [positions.tolist() for positions, _ in found] == [[0, 1], [2, 3], [4]]
    np.testing.assert_array_equal(found[1][1], np.stack([images[4], images[3]]))


@given(
    shapes=st.lists(st.sampled_from([(2, 3, 1), (3, 2, 1), (2, 2, 3), (1, 1, 1)]), max_size=30),
    files=st.sets(st.integers(0, 29)),
    shard_bytes=st.sampled_from([1, 13, 1000]),
    batch_size=st.integers(1, 8),
    data=st.data(),
)
def test_what_is_packed_comes_back(tmp_path_factory, shapes, files, shard_bytes, batch_size, data):
    images = [data.draw(hnp.arrays(np.uint8, shape)) for shape in shapes]
    packed = pack(tmp_path_factory.mktemp("p"), images, files=files, shard_bytes=shard_bytes)
    for number, image in enumerate(images):
        np.testing.assert_array_equal(packed.image(number), image)
    chosen = data.draw(st.permutations(range(len(images))))
    seen = []
    for positions, batch in packed.batches(np.array(chosen, np.int64), batch_size):
        assert 1 <= len(positions) <= batch_size
        for position, image in zip(positions, batch, strict=True):
            np.testing.assert_array_equal(image, images[chosen[position]])
        seen += positions.tolist()
    assert sorted(seen) == list(range(len(images)))


def test_the_same_images_give_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        pack(tmp_path / name, stack(20), shard_bytes=100)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_pages_that_were_read_are_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr("graftline.data.shards._KEPT_BYTES", 8 << 20)
    images = [np.full((512, 1024, 3), number, np.uint8) for number in range(64)]
    packed = pack(tmp_path / "p", images, shard_bytes=1 << 30)
    del images
    process = psutil.Process()
    packed.batch([0])
    before, most = process.memory_info().rss, 0
    for positions, batch in packed.batches(np.arange(64), 1):
        assert (batch == positions[0]).all()
        most = max(most, process.memory_info().rss)
    assert most - before < 50e6


def test_images_are_read_only(tmp_path):
    packed = pack(tmp_path / "p", stack(2))
    with pytest.raises(ValueError, match="read-only"):
        packed.image(0)[...] = 0


def test_nothing_there(tmp_path):
    with pytest.raises(MissingOutputError, match=r"manifest\.parquet is not there yet") as caught:
        PackedImages.open(tmp_path)
    assert "dvc repro" in str(caught.value)


def test_another_file_in_the_manifests_place(tmp_path):
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(MissingOutputError, match="is no manifest of packed images"):
        PackedImages.open(tmp_path)


def test_a_missing_shard(tmp_path):
    packed = pack(tmp_path / "p", stack(2))
    (tmp_path / "p" / "images-00000.bin").unlink()
    with pytest.raises(MissingOutputError, match=r"images-00000\.bin is absent or empty"):
        packed.image(0)


def test_a_truncated_shard(tmp_path):
    packed = pack(tmp_path / "p", stack(3))
    shard = tmp_path / "p" / "images-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(MissingOutputError, match=r"images-00000\.bin is shorter"):
        packed.image(2)
    with pytest.raises(MissingOutputError, match=r"images-00000\.bin is shorter"):
        packed.batch([0, 2])


def test_the_list_tells_what_was_to_be_written(tmp_path: Path) -> None:
    from graftline.core.checksums import verify
    from graftline.core.errors import DamagedFileError
    from graftline.core.files import replacing_directory
    from tests.unit.core.test_checksums import rot

    with replacing_directory(tmp_path / "out", sealed=True) as folder:
        with ShardWriter(folder, shard_bytes=4) as shards:
            for payload in (b"abc", b"de", b"fgh"):
                shards.append(payload)
        # Between the writing and the listing.
        rot(folder / "images-00001.bin", 3)
    verify(tmp_path / "out" / "images-00000.bin")
    verify(tmp_path / "out" / "images-00002.bin")
    with pytest.raises(DamagedFileError, match="images-00001.bin is damaged"):
        verify(tmp_path / "out" / "images-00001.bin")
