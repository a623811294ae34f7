"""Data sets: what is read is what was written, and what cannot be read is said."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import struct
import tarfile
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.datasets import SVHN

from onr.data import AUGMENTATIONS, Dataset, Preparation, Split, augment, pixels
from onr.errors import OnrError
from onr_paper import datasets, photographs
from onr_paper.array_files import _layout, npz, stored
from onr_paper.datasets import cifar10, digits, svhn
from onr_paper.photographs import folder

CLASSES = 3


def images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Random uint8 images."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def labels(count: int) -> np.ndarray:
    """Every class in turn."""
    return np.arange(count) % CLASSES


def save(stem: Path, x: np.ndarray, y: np.ndarray, **more: np.ndarray) -> str:
    """Write both parts alike; returns the stem."""
    for part in ("train", "test"):
        np.savez_compressed(f"{stem}-{part}.npz", images=x, labels=y, **more)
    return str(stem)


def read(part: Split) -> np.ndarray:
    """The images of a part, channels last."""
    return np.asarray(part.images).transpose(0, 2, 3, 1)


def used(found: Dataset) -> Dataset:
    """A data set of which all images were used."""
    for part in (found.test, found.train):
        read(part)
    return found


# Digits


def test_digits(tmp_path: Path) -> None:
    found = digits(data_dir=tmp_path)
    assert found.input_shape == (1, 8, 8)
    assert (len(found.train), len(found.test)) == (1437, 360)
    assert found.classes == tuple("0123456789")
    for part in (found.train, found.test):
        assert part.images.dtype == np.float32
        assert (part.images.min(), part.images.max()) == (0, 1)
        assert set(part.labels) == set(range(10))
        assert np.array_equal(part.images * 16, np.round(part.images * 16))


# npz


def test_npz_keeps_bytes(tmp_path: Path) -> None:
    x, y = images(7, 5, 4, 3), labels(7)
    found = npz(save(tmp_path / "set", x, y), data_dir=tmp_path)
    assert found.input_shape == (3, 5, 4)
    assert found.classes == ("0", "1", "2")
    for part in (found.train, found.test):
        assert part.images.dtype == np.uint8
        assert np.array_equal(read(part), x)
        assert np.array_equal(part.labels, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_npz_keeps_floats(dtype: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((4, 5, 5, 3)).astype(dtype)
    found = npz(save(tmp_path / "set", x, labels(4)), data_dir=tmp_path)
    assert found.train.images.dtype == dtype
    assert np.array_equal(read(found.train), x)


def test_stored_is_the_npz_in_the_data_folder(tmp_path: Path) -> None:
    for part, seed in (("train", 0), ("test", 1)):
        np.savez(
            tmp_path / f"mine-{part}.npz", images=images(4, 8, 8, 3, seed=seed), labels=[0, 1, 2, 0]
        )
    found, same = stored("mine", data_dir=tmp_path), npz(str(tmp_path / "mine"), data_dir=Path())
    np.testing.assert_array_equal(found.train.images, same.train.images)
    np.testing.assert_array_equal(found.test.images, same.test.images)
    (tmp_path / "mine-test.npz").unlink()
    with pytest.raises(OnrError, match=r"no file .*mine-test.npz: give --data-dir"):
        stored("mine", data_dir=tmp_path)


def test_npz_reads_grey_images(tmp_path: Path) -> None:
    x = images(4, 6, 5)
    found = npz(save(tmp_path / "set", x, labels(4)), data_dir=tmp_path)
    assert found.input_shape == (1, 6, 5)
    assert np.array_equal(read(found.train)[..., 0], x)


def test_npz_reads_the_names_of_classes(tmp_path: Path) -> None:
    stem = save(tmp_path / "set", images(4, 5, 5), labels(4), classes=np.array(["a", "b", "c"]))
    assert npz(stem, data_dir=tmp_path).classes == ("a", "b", "c")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f4", "f8", "f2"])
def test_npz_reads_either_byte_order(order: str, kind: str, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).random((4, 8, 8, 3)).astype(order + kind)
    for part in ("train", "test"):
        np.savez(tmp_path / f"set-{part}.npz", images=stored, labels=labels(4).astype(order + "i4"))
    found = npz(str(tmp_path / "set"), data_dir=tmp_path).train
    assert np.asarray(found.images).dtype.isnative
    assert found.labels.dtype.isnative
    assert np.array_equal(np.asarray(found.images), stored.transpose(0, 3, 1, 2))
    assert np.array_equal(found.labels, labels(4))


SIDES = st.sampled_from([1, 2, 3, 4, 5, 9, 16, 28])


@given(st.tuples(SIDES, SIDES, SIDES))
def test_the_layout_of_an_npz_is_beyond_doubt_or_refused(axes: tuple[int, int, int]) -> None:
    first, middle, last = axes
    found = _layout((7, *axes))
    channels, sides = (last, (first, middle)) if found == "NHWC" else (first, (middle, last))
    other = first if found == "NHWC" else last
    if found is not None:
        assert other not in (1, 3, 4), "the other reading would be a grey or a colour image"
        assert channels in (1, 3, 4) or (sides[0] == sides[1] > channels)
    elif first not in (1, 3, 4) and last not in (1, 3, 4):
        assert not first == middle > last
        assert not middle == last > first
    elif (first in (1, 3, 4)) != (last in (1, 3, 4)):
        assert last not in (1, 3, 4)
        assert not middle == last > first
        assert first == 1 or min(middle, last) < 16


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("order", ["C", "F"])
def test_both_layouts_are_the_same_images(compressed: bool, order: str, tmp_path: Path) -> None:
    x, write = images(5, 9, 12, 3), np.savez_compressed if compressed else np.savez
    for stem, stored_as in (("last", x), ("first", x.transpose(0, 3, 1, 2))):
        stored = np.asarray(stored_as, order=order)
        write(tmp_path / f"{stem}-test.npz", images=stored, labels=labels(5), layout=LAYOUT[stem])
        found = npz(str(tmp_path / stem), data_dir=tmp_path)
        assert np.array_equal(read(found.test), x)
        assert np.array_equal(read(found.test.take(2)), x[:2])


LAYOUT = {"last": "NHWC", "first": "NCHW"}


def test_square_images_may_have_the_channels_first(tmp_path: Path) -> None:
    x = images(5, 9, 9, 3)
    save(tmp_path / "set", x.transpose(0, 3, 1, 2), labels(5))
    assert np.array_equal(read(npz(str(tmp_path / "set"), data_dir=tmp_path).train), x)


def test_an_npz_needs_no_training_part_until_it_is_used(tmp_path: Path) -> None:
    x = images(5, 9, 9, 3)
    for name in ("set-test.npz", "alone.npz"):
        np.savez(tmp_path / name, images=x, labels=labels(5), classes=np.array(["a", "b", "c"]))
    (tmp_path / "set-train.npz").write_bytes(b"damaged")
    for stem, message in (("set", "set-train.npz cannot be read"), ("alone.npz", "no training")):
        found = npz(str(tmp_path / stem), data_dir=tmp_path)
        assert found.classes == ("a", "b", "c")
        assert np.array_equal(read(found.test), x)
        with pytest.raises(OnrError, match=message):
            len(found.train)
        with pytest.raises(OnrError, match=message):
            found.normalization()


def test_only_the_images_that_are_used_are_read(tmp_path: Path) -> None:
    x = np.full((40, 8, 8, 3), 0.5)
    x[20:] = 7
    np.savez(tmp_path / "set-test.npz", images=x, labels=labels(40))
    test = npz(str(tmp_path / "set"), data_dir=tmp_path).test
    assert np.array_equal(read(test.take(20)), x[:20])
    with pytest.raises(OnrError, match=r"set-test\.npz: pixels run from 0.5 to 7"):
        read(test.take(21))


@pytest.mark.parametrize("compressed", [True, False])
def test_an_npz_that_changes_is_not_read_on(compressed: bool, tmp_path: Path) -> None:
    write = np.savez_compressed if compressed else np.savez
    write(tmp_path / "set-test.npz", images=images(40, 32, 32, 3), labels=labels(40))
    test = npz(str(tmp_path / "set"), data_dir=tmp_path).test
    read(test.take(2))
    write(tmp_path / "set-test.npz", images=images(3, 32, 32, 3), labels=labels(3))
    with pytest.raises(OnrError, match=r"set-test\.npz has changed since its labels were read"):
        read(test)  # a map would read beyond the end of the file: SIGBUS


def test_npz_needs_both_files(tmp_path: Path) -> None:
    stem = save(tmp_path / "set", images(4, 5, 5), labels(4))
    Path(f"{stem}-test.npz").unlink()
    with pytest.raises(OnrError, match=r"no file .*set-test\.npz"):
        npz(stem, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"images": images(4, 5, 5)}, "labels"),
        ({"labels": labels(4)}, "images"),
        ({"images": images(4, 5), "labels": labels(4)}, "shape"),
        ({"images": images(4, 1, 5, 5, 3), "labels": labels(4)}, "shape"),
        ({"images": images(4, 1, 128, 9), "labels": labels(4)}, "in doubt.*layout='NHWC'"),
        ({"images": images(4, 3, 3, 3), "labels": labels(4)}, "in doubt"),
        ({"images": images(4, 8, 8, 9), "labels": labels(4)}, "in doubt"),
        (
            {"images": images(4, 8, 8, 3), "labels": labels(4), "layout": np.array("CHW")},
            "layout is 'CHW', expected NHWC or NCHW",
        ),
        ({"images": images(4, 5, 5), "labels": labels(3)}, "labels have shape"),
        ({"images": images(4, 5, 5), "labels": labels(4)[:, None]}, "labels have shape"),
        ({"images": images(4, 5, 5), "labels": labels(4) / 2}, "expected integers"),
        ({"images": images(4, 5, 5), "labels": np.full(4, np.nan)}, "labels"),
        ({"images": images(4, 5, 5), "labels": np.array(["a", "b", "c", "d"])}, "labels"),
        ({"images": images(4, 5, 5), "labels": labels(4) - 1}, "labels run from -1"),
        ({"images": images(0, 5, 5), "labels": labels(0)}, "at least one"),
        ({"images": images(4, 0, 5), "labels": labels(4)}, "shape"),
        ({"images": images(4, 5, 5).astype(int), "labels": labels(4)}, "pixels run from"),
        ({"images": np.full((4, 5, 5), 1.01), "labels": labels(4)}, "pixels run from"),
        ({"images": np.full((4, 5, 5), -0.01), "labels": labels(4)}, "pixels run from"),
        ({"images": np.full((4, 5, 5), np.nan), "labels": labels(4)}, "pixels run from"),
        ({"images": np.full((4, 5, 5), "a"), "labels": labels(4)}, "images"),
        ({"images": np.zeros((4, 5, 5), complex), "labels": labels(4)}, "images|pixels"),
        (
            {"images": images(4, 5, 5), "labels": labels(4), "classes": np.array(3)},
            "set-test|classes",
        ),
        (
            {"images": images(4, 5, 5), "labels": labels(4), "classes": np.array(["a"])},
            "labels run from 0 to 2, expected 0 to 0",
        ),
    ],
)
def test_npz_says_what_is_wrong(arrays: dict[str, np.ndarray], reason: str, tmp_path: Path) -> None:
    for part in ("train", "test"):
        np.savez(tmp_path / f"set-{part}.npz", **arrays)
    with pytest.raises(OnrError, match=reason):
        used(npz(str(tmp_path / "set"), data_dir=tmp_path))


def test_npz_parts_must_agree(tmp_path: Path) -> None:
    stem = save(tmp_path / "set", images(4, 5, 5), labels(4))
    np.savez(f"{stem}-test.npz", images=images(4, 6, 5), labels=labels(4))
    with pytest.raises(OnrError, match="train part: images have shape"):
        used(npz(stem, data_dir=tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", b"PK\x03\x04", b"\x80\x04\x95."],
    ids=["empty", "text", "header alone", "pickle"],
)
def test_npz_that_is_none(content: bytes, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / f"set-{part}.npz").write_bytes(content)
    with pytest.raises(OnrError, match=r"set-test\.npz cannot be read"):
        npz(str(tmp_path / "set"), data_dir=tmp_path)


def test_npz_that_is_a_single_array(tmp_path: Path) -> None:
    for part in ("train", "test"):
        with (tmp_path / f"set-{part}.npz").open("wb") as file:
            np.save(file, images(4, 5, 5))
    with pytest.raises(OnrError, match=r"set-test\.npz cannot be read"):
        npz(str(tmp_path / "set"), data_dir=tmp_path)


def test_npz_is_never_unpickled(tmp_path: Path) -> None:
    evidence = tmp_path / "was-unpickled"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (evidence,))

    trap = np.array([Trap()], dtype=object)
    stem = save(tmp_path / "set", trap, labels(1))
    with pytest.raises(OnrError, match="not pickled"):
        npz(stem, data_dir=tmp_path)
    assert not evidence.exists()
    with np.load(f"{stem}-train.npz", allow_pickle=True) as arrays:
        arrays["images"]
    assert evidence.exists(), "the trap would have worked"


def test_one_damaged_byte_of_an_npz_is_noticed_or_harmless(tmp_path: Path) -> None:
    x, y = images(6, 4, 4) // 64, labels(6)
    stem = save(tmp_path / "set", x, y)
    file = Path(f"{stem}-train.npz")
    whole = file.read_bytes()
    for position in range(len(whole)):
        for flip in (0x01, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= flip
            file.write_bytes(damaged)
            try:
                found = used(npz(stem, data_dir=tmp_path))
            except OnrError:
                continue
            assert np.array_equal(read(found.train)[..., 0], x), position
            assert np.array_equal(found.train.labels, y), position


# Folders of images


def write_folder(root: Path, size: tuple[int, int] = (6, 5)) -> np.ndarray:
    """Two images of each of two classes, in both parts; returns the training images."""
    written = []
    for part in ("train", "test"):
        for index, name in enumerate(("ant", "bee")):
            (root / part / name).mkdir(parents=True)
            for k in range(2):
                image = images(1, *size, 3, seed=2 * index + k)[0]
                Image.fromarray(image).save(root / part / name / f"{k}.png")
                if part == "train":
                    written.append(image)
    return np.stack(written)


def test_folder(tmp_path: Path) -> None:
    written = write_folder(tmp_path)
    found = folder(str(tmp_path), data_dir=tmp_path)
    assert found.classes == ("ant", "bee")
    assert found.input_shape == (3, 6, 5)
    place = [written.tolist().index(image) for image in read(found.train).tolist()]
    assert sorted(place) == [0, 1, 2, 3]
    assert found.train.labels.tolist() == [index // 2 for index in place]


def test_the_order_of_a_folder_mixes_classes_and_is_that_of_names(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for k in range(20):
            Image.fromarray(images(1, 4, 4, 3)[0]).save(tmp_path / name / f"{k}.png")
    before = folder(str(tmp_path), data_dir=tmp_path).test.labels
    assert set(before[:10]) == {0, 1}
    (tmp_path / "bee" / "0.png").unlink()
    after = folder(str(tmp_path), data_dir=tmp_path).test.labels.tolist()
    assert any(after == np.delete(before, k).tolist() for k in np.flatnonzero(before))


def test_the_images_of_a_folder_have_files(tmp_path: Path) -> None:
    write_folder(tmp_path)
    strange = os.fsdecode(b"caf\xe9.png")  # no UTF-8
    (tmp_path / "test" / "ant" / "0.png").rename(tmp_path / "test" / "ant" / strange)
    found = folder(str(tmp_path), data_dir=tmp_path)
    names = {"ant/caf\N{REPLACEMENT CHARACTER}.png", "ant/1.png", "bee/0.png", "bee/1.png"}
    assert found.test.files is not None
    assert set(found.test.files) == names
    relabelled = found.labelled_for(["bee", "ant"], model="mine").test
    assert relabelled.take(3).files == found.test.files[:3]
    for name, image in zip(found.train.files or (), read(found.train), strict=True):
        with Image.open(tmp_path / "train" / name) as there:
            assert np.array_equal(np.asarray(there), image)
    assert Split(images(2, 1, 4, 4), np.arange(2)).files is None


@pytest.mark.parametrize("name", ["test", "val", "validation", "."])
def test_a_folder_needs_no_training_part(name: str, tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "test").rename(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "elsewhere").rename(tmp_path / "all" if name == "." else tmp_path / name)
    place = tmp_path / "all" if name == "." else tmp_path
    found = folder(str(place), data_dir=tmp_path)
    assert len(found.test) == 4
    with pytest.raises(OnrError, match="has no training part"):
        len(found.train)


def test_photographs_are_resized_cropped_and_read_where_they_are_used(tmp_path: Path) -> None:
    for name, size in (("ant", (40, 64)), ("bee", (90, 33))):
        (tmp_path / name).mkdir()
        Image.fromarray(images(1, *size, 3)[0]).save(tmp_path / name / "0.png")
    found = folder(f"{tmp_path}@32,28", data_dir=tmp_path)
    assert found.preparation == "shorter side resized to 32 (bilinear), centre crop of 28 x 28"
    for preparation, side in (
        (Preparation(32, (28, 28), "bicubic"), 32),
        (Preparation((30, 40), (28, 28), "bicubic"), (30, 40)),
    ):
        found = folder(str(tmp_path), data_dir=tmp_path, preparation=preparation)
        assert found.input_shape == (3, 28, 28)
        way = transforms.InterpolationMode.BICUBIC
        steps = transforms.Compose([transforms.Resize(side, way), transforms.CenterCrop(28)])
        for image, label in zip(read(found.test), found.test.labels, strict=True):
            with Image.open(tmp_path / ("ant", "bee")[label] / "0.png") as photograph:
                assert np.array_equal(np.asarray(steps(photograph)), image)
    first = found.test.labels[0]
    (tmp_path / ("bee", "ant")[first] / "0.png").write_text("no image")
    read(folder(str(tmp_path), data_dir=tmp_path, preparation=preparation).test.take(1))


def test_folders_may_have_other_names_of_classes(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("bee = honey bee, Apis mellifera\n\n")
    found = folder(str(tmp_path), data_dir=tmp_path)
    assert found.classes == ("ant", "honey bee, Apis mellifera")
    for text in ("wasp = x", "bee", "bee = ", "bee = a\nbee = b"):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(OnrError, match=r"classes.txt: .* expected FOLDER = NAME"):
            folder(str(tmp_path), data_dir=tmp_path)
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfant = x")  # as Windows writes UTF-8
    assert folder(str(tmp_path), data_dir=tmp_path).classes == ("x", "bee")
    (tmp_path / "classes.txt").write_bytes(b"ant = \xe9")
    with pytest.raises(OnrError, match=r"classes.txt cannot be read.*UTF-8"):
        folder(str(tmp_path), data_dir=tmp_path)


@pytest.mark.parametrize("size", ["28,32", "0"])
def test_a_crop_that_does_not_fit(size: str, tmp_path: Path) -> None:
    with pytest.raises(OnrError, match="expected 1 <= crop <= shorter side"):
        folder(f"{tmp_path}@{size}", data_dir=tmp_path)


def test_folder_reads_grey_images_as_colours(tmp_path: Path) -> None:
    write_folder(tmp_path)
    grey = images(1, 6, 5)[0]
    for file in (tmp_path / "train" / "ant").iterdir():
        Image.fromarray(grey).save(file)
    found = folder(str(tmp_path), data_dir=tmp_path).train
    ants = np.asarray(found.images)[found.labels == 0]
    assert np.array_equal(ants, np.stack([np.stack([grey] * 3)] * 2))


def deep_png(colours: int, channels: int) -> bytes:
    """A PNG of 5 x 6 pixels with 16 bits a channel, by its colour type."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    head = struct.pack(">IIBBBBB", 5, 6, 16, colours, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(5 * channels * 2)) * 6)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


DEEP = {
    "0.ppm": b"P6 5 6 65535\n" + bytes(5 * 6 * 6),
    "rgb.png": deep_png(2, 3),
    "grey-alpha.png": deep_png(4, 2),
    "rgb-alpha.png": deep_png(6, 4),
}


@pytest.mark.parametrize("name", DEEP)
def test_several_channels_of_more_than_eight_bits_are_refused(name: str, tmp_path: Path) -> None:
    write_folder(tmp_path)
    for file in (tmp_path / "test" / "ant").iterdir():
        file.unlink()
    (tmp_path / "test" / "ant" / name).write_bytes(DEEP[name])
    with pytest.raises(OnrError, match=rf"{name}.*more than eight bits a channel"):
        np.asarray(folder(str(tmp_path), data_dir=tmp_path).test.images)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_images_of_more_than_eight_bits_are_refused(kind: type, tmp_path: Path) -> None:
    write_folder(tmp_path)
    for file in (tmp_path / "test" / "ant").iterdir():
        Image.fromarray(images(1, 6, 5)[0].astype(kind)).save(file.with_suffix(".TIFF"))
        file.unlink()
    with pytest.raises(OnrError, match=r"\.TIFF.*more than eight bits a channel"):
        read(folder(f"{tmp_path}@5", data_dir=tmp_path).test)


def test_hidden_files_and_folders_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path)
    for part in ("test", "train"):
        (tmp_path / part / ".ipynb_checkpoints").mkdir()
        (tmp_path / part / "ant" / "._0.png").write_bytes(b"no image")
    (tmp_path / "test" / "notes.txt").write_text("no image")
    monkeypatch.chdir(tmp_path / "test" / "ant")
    found = used(folder("../..", data_dir=tmp_path))
    assert found.classes == ("ant", "bee")
    assert len(found.test) == len(found.train) == 4
    for file in (tmp_path / "test" / "bee").iterdir():
        file.rename(file.with_name(f".{file.name}"))
    with pytest.raises(OnrError, match=r"test/bee has no image, a file that ends with \.jpg"):
        folder(str(tmp_path), data_dir=tmp_path)


def _no_test(root: Path) -> None:
    (root / "test").rename(root / "elsewhere")


def _test_is_a_file(root: Path) -> None:
    _no_test(root)
    (root / "test").write_text("")


def _no_images(root: Path) -> None:
    for file in (root / "train" / "bee").iterdir():
        file.unlink()


def _other_classes(root: Path) -> None:
    (root / "test" / "bee").rename(root / "test" / "cat")


def _other_size(root: Path) -> None:
    Image.fromarray(images(1, 6, 6, 3)[0]).save(root / "train" / "bee" / "1.png")


def _other_size_in_test(root: Path) -> None:
    for file in (root / "test").glob("*/*.png"):
        Image.fromarray(images(1, 6, 6, 3)[0]).save(file)


def _text(root: Path) -> None:
    (root / "train" / "bee" / "1.png").write_text("no image")


def _truncated(root: Path) -> None:
    file = root / "train" / "bee" / "1.png"
    file.write_bytes(file.read_bytes()[:60])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_no_test, "test"),
        (_test_is_a_file, "test"),
        (_no_images, "bee"),
        (_other_classes, r"test has .*cat"),
        (
            _other_size,
            r"is 6 x [56] \(height x width\), .* 6 x [56]: all .* folder:PATH@RESIZE,CROP",
        ),
        (_other_size_in_test, "train part: images have shape"),
        (_text, r"1\.png cannot be read"),
        (_truncated, r"1\.png cannot be read"),
    ],
)
def test_folder_says_what_is_wrong(change: object, reason: str, tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert callable(change)
    change(tmp_path)
    with pytest.raises(OnrError, match=reason):
        used(folder(str(tmp_path), data_dir=tmp_path))


def test_sizes_differ_before_a_model_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes of the first images are compared before a model is tried on one of them."""
    write_folder(tmp_path)
    Image.fromarray(images(1, 6, 6, 3)[0]).save(tmp_path / "test" / "bee" / "1.png")
    told = r"\.png is 6 x [56] \(height x width\), .* one size; folder:PATH@RESIZE,CROP"
    with pytest.raises(OnrError, match=told):
        folder(str(tmp_path), data_dir=tmp_path)
    assert folder(f"{tmp_path}@5", data_dir=tmp_path).input_shape == (3, 5, 5)
    monkeypatch.setattr(photographs, "EXAMINED", 0)
    found = folder(str(tmp_path), data_dir=tmp_path)
    with pytest.raises(OnrError, match=told):
        read(found.test)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OnrError, match="nowhere"):
        folder(str(tmp_path / "nowhere"), data_dir=tmp_path)


def test_a_damaged_image_is_noticed_or_read(tmp_path: Path) -> None:
    write_folder(tmp_path)
    file = tmp_path / "train" / "ant" / "0.png"
    whole = file.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x80
        file.write_bytes(damaged)
        try:
            used(folder(str(tmp_path), data_dir=tmp_path))
        except OnrError:
            continue


# Downloads, from a server of our own


class Server:
    """Files by name, at ``url``."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                content = server.files.get(self.path[1:])
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

            def log_message(self, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def archive() -> bytes:
    """CIFAR-10's binary archive with four images a batch; labels are 0 to 9 in turn."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for k, name in enumerate([f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]):
            records = images(4, 3073, seed=k)
            records[:, 0] = (4 * k + np.arange(4)) % 10
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = records.nbytes
            tar.addfile(member, io.BytesIO(records.tobytes()))
    return buffer.getvalue()


@pytest.fixture
def cifar_server(server: Server, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> Server:
    server.files["cifar.tar.gz"] = archive
    monkeypatch.setattr(datasets, "CIFAR10_URL", f"{server.url}/cifar.tar.gz")
    monkeypatch.setattr(datasets, "CIFAR10_MD5", md5(archive))
    return server


def test_cifar10_is_downloaded_once(cifar_server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        found = cifar10(data_dir=tmp_path / "new" / "data", download=True)
    assert (len(found.train), len(found.test)) == (20, 4)
    assert found.input_shape == (3, 32, 32)
    assert found.augmentation == "crop-flip"
    assert len(found.classes) == 10
    assert found.train.labels.tolist() == [k % 10 for k in range(20)]
    for k in range(5):
        batch = images(4, 3073, seed=k)[:, 1:].reshape(4, 3, 32, 32)
        assert np.array_equal(found.train.images[4 * k : 4 * k + 4], batch)
    assert found.test.labels.tolist() == [0, 1, 2, 3]
    fetched = len(cifar_server.asked)
    assert fetched
    cifar10(data_dir=tmp_path / "new" / "data")
    assert len(cifar_server.asked) == fetched


def test_cifar10_is_not_downloaded_unasked(cifar_server: Server, tmp_path: Path) -> None:
    with pytest.raises(OnrError, match="--download"):
        cifar10(data_dir=tmp_path)
    assert cifar_server.asked == []
    assert list(tmp_path.iterdir()) == []


def test_cifar10_with_a_wrong_checksum(cifar_server: Server, tmp_path: Path) -> None:
    cifar_server.files["cifar.tar.gz"] = b"something else"
    with pytest.raises(OnrError, match="cifar10 could not be downloaded"):
        cifar10(data_dir=tmp_path, download=True)


def test_cifar10_that_the_server_does_not_have(cifar_server: Server, tmp_path: Path) -> None:
    cifar_server.files.clear()
    with pytest.raises(OnrError, match=r"cifar10 could not be downloaded.*404"):
        cifar10(data_dir=tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_cifar10_without_a_server(
    cifar_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "CIFAR10_URL", "http://127.0.0.1:1/cifar.tar.gz")
    with pytest.raises(OnrError, match="cifar10 could not be downloaded"):
        cifar10(data_dir=tmp_path, download=True)


@pytest.mark.parametrize("download", [False, True])
def test_a_damaged_archive_on_disk(
    download: bool, cifar_server: Server, archive: bytes, tmp_path: Path
) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(archive[:-100])
    with pytest.raises(OnrError, match=r"cifar-10-binary\.tar\.gz is damaged"):
        cifar10(data_dir=tmp_path, download=download)
    assert cifar_server.asked == []


def test_cifar10_where_no_folder_can_be_made(cifar_server: Server, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for place in (file, file / "below"):
        with pytest.raises(OnrError, match="file"):
            cifar10(data_dir=place, download=True)


@pytest.fixture
def svhn_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    for part, count in (("train", 12), ("test", 11)):
        buffer = io.BytesIO()
        x = images(count, 32, 32, 3).transpose(1, 2, 3, 0)
        y = (np.arange(count) % 10 + 1)[:, None].astype(np.uint8)
        scipy.io.savemat(buffer, {"X": x, "y": y})
        name = f"{part}_32x32.mat"
        server.files[name] = buffer.getvalue()
        known = [f"{server.url}/{name}", name, md5(buffer.getvalue())]
        monkeypatch.setitem(SVHN.split_list, part, known)
    return server


def test_svhn_is_downloaded_once(svhn_server: Server, tmp_path: Path) -> None:
    found = svhn(data_dir=tmp_path / "data", download=True)
    assert (len(found.train), len(found.test)) == (12, 11)
    assert found.input_shape == (3, 32, 32)
    assert found.augmentation == "crop"
    assert np.array_equal(found.train.images, images(12, 32, 32, 3).transpose(0, 3, 1, 2))
    assert found.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert found.train.labels.dtype == np.int64
    fetched = len(svhn_server.asked)
    svhn(data_dir=tmp_path / "data")
    svhn(data_dir=tmp_path / "data", download=True)
    assert len(svhn_server.asked) == fetched


def test_svhn_is_not_downloaded_unasked(svhn_server: Server, tmp_path: Path) -> None:
    with pytest.raises(OnrError, match=r"train_32x32\.mat.*--download"):
        svhn(data_dir=tmp_path)
    (tmp_path / "train_32x32.mat").write_bytes(svhn_server.files["train_32x32.mat"])
    with pytest.raises(OnrError, match=r"test_32x32\.mat.*--download"):
        svhn(data_dir=tmp_path)
    assert svhn_server.asked == []


@pytest.mark.parametrize("content", [b"something else", None], ids=["wrong checksum", "404"])
def test_svhn_that_cannot_be_downloaded(
    content: bytes | None, svhn_server: Server, tmp_path: Path
) -> None:
    if content is None:
        svhn_server.files.clear()
    else:
        svhn_server.files["train_32x32.mat"] = content
    with pytest.raises(OnrError, match="could not be downloaded"):
        svhn(data_dir=tmp_path, download=True)


def test_a_damaged_svhn_on_disk(svhn_server: Server, tmp_path: Path) -> None:
    for name, content in svhn_server.files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "test_32x32.mat").write_bytes(svhn_server.files["test_32x32.mat"][:-50])
    with pytest.raises(OnrError, match=r"test_32x32\.mat is damaged"):
        svhn(data_dir=tmp_path)


# Parts, pixels, normalisation


def test_the_first_so_many() -> None:
    split = Split(images(5, 1, 4, 4), labels(5))
    assert split.take(None) is split
    assert np.array_equal(split.take(2).images, split.images[:2])
    assert np.array_equal(split.take(5).labels, split.labels)
    for count in (0, -1, 6):
        with pytest.raises(OnrError, match=rf"{count} images asked for: expected 1 to 5"):
            split.take(count)


def test_pixels_are_between_zero_and_one() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    for dtype in ("float32", "float64"):
        found = pixels(grey, dtype)
        assert found.dtype == dtype
        assert (found.min(), found.max()) == (0, 1)
        assert np.array_equal(np.round(found * 255), grey)
    floats = np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    assert np.array_equal(pixels(floats), floats)


def test_one_image_is_the_same_as_bytes_and_as_floats() -> None:
    grey = images(3, 2, 4, 4)
    assert np.array_equal(pixels(grey, "float64"), pixels(grey / 255, "float64"))


@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_normalization_is_that_of_the_training_part(kind: str) -> None:
    x = images(50, 3, 4, 4)
    floats = x / 255
    stored = x if kind == "uint8" else floats.astype(kind)
    made = Dataset("made", Split(stored, labels(50)), Split(stored[:1], labels(1)), ("a", "b", "c"))
    found = made.normalization()
    assert found.mean == pytest.approx(floats.mean(axis=(0, 2, 3)), rel=1e-6)
    assert found.std == pytest.approx(floats.std(axis=(0, 2, 3)), rel=1e-6)


def test_normalization_of_a_constant_channel() -> None:
    part = Split(np.full((3, 1, 4, 4), 0.5), labels(3))
    found = Dataset("flat", part, part, ("a", "b", "c")).normalization()
    assert (found.mean, found.std) == ((0.5,), (1.0,))


# Augmentation


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def windows(image: np.ndarray) -> set[bytes]:
    """Every crop that the zero-padded image ``(C, H, W)`` has."""
    height, width = image.shape[1:]
    padded = np.zeros((image.shape[0], height + 8, width + 8), image.dtype)
    padded[:, 4:-4, 4:-4] = image
    return {
        padded[:, top : top + height, left : left + width].tobytes()
        for top in range(9)
        for left in range(9)
    }


def test_no_augmentation_is_the_identity() -> None:
    x = images(5, 3, 8, 8)
    assert augment(x, "none", rng()) is x


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    x = images(200, 3, 6, 7)
    found = augment(x, "crop", rng())
    assert (found.shape, found.dtype) == (x.shape, x.dtype)
    same = 0
    for image, crop in zip(x, found, strict=True):
        assert crop.tobytes() in windows(image)
        same += np.array_equal(image, crop)
    assert same < 20


def test_every_window_comes_up() -> None:
    x = np.repeat(images(1, 1, 6, 6), 2000, axis=0)
    found = {crop.tobytes() for crop in augment(x, "crop", rng())}
    assert found == windows(x[0])


def test_about_half_of_the_images_are_mirrored() -> None:
    x = images(400, 3, 6, 7)
    mirrored = 0
    for image, crop in zip(x, augment(x, "crop-flip", rng()), strict=True):
        straight = crop.tobytes() in windows(image)
        flipped = crop[:, :, ::-1].tobytes() in windows(image)
        assert straight or flipped
        mirrored += flipped and not straight
    assert 150 < mirrored < 250


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_augmentation_is_seeded_and_leaves_its_input(kind: str) -> None:
    x = images(20, 3, 8, 8)
    before = x.copy()
    once = augment(x, kind, rng(1)).copy()
    assert np.array_equal(once, augment(x, kind, rng(1)))
    assert np.array_equal(x, before)
    if kind != "none":
        assert not np.array_equal(once, augment(x, kind, rng(2)))


# Real images


@pytest.fixture(scope="module")
def real() -> Path:
    """Where the real images are."""
    place = os.environ.get("ONR_DATA_DIR")
    if not place:
        pytest.skip("ONR_DATA_DIR is not set: no real images to read")
    return Path(place)


def test_real_cifar10(real: Path) -> None:
    found = npz(str(real / "cifar10"), data_dir=real)
    assert found.input_shape == (3, 32, 32)
    assert len(found.classes) == 10
    assert len(found.train) >= 20_000
    assert len(found.test) == 10_000
    assert np.bincount(found.test.labels).tolist() == [1000] * 10
    assert found.normalization().mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.005)


def test_real_svhn(real: Path) -> None:
    found = npz(str(real / "svhn"), data_dir=real)
    assert found.input_shape == (3, 32, 32)
    assert found.classes == tuple("0123456789")
    assert len(found.train) >= 8_000
    assert len(found.test) >= 2_000
    assert set(found.train.labels) == set(range(10))
