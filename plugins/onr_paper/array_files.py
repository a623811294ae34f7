"""The user's own arrays in npz files. No file is unpickled; images are read as they are used."""

from __future__ import annotations

import math
import struct
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from onr.data import Dataset, LaterSplit, Split, StoredImages
from onr.errors import OnrError

__all__ = ["npz", "stored"]

CHANNELS = (1, 3, 4)
"""How many channels grey, colour and transparent images have."""
LAYOUTS = {"NHWC": (0, 3, 1, 2), "NCHW": (0, 1, 2, 3)}
"""The axes of stored images, and which of them are N, C, H and W."""
MANY = 16
"""So many channels no image of three or four rows has."""
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def npz(stem: str, *, data_dir: Path, download: bool = False) -> Dataset:
    """The user's own arrays, in the files ``STEM-test.npz`` and ``STEM-train.npz``.

    Each file has the arrays ``images``, uint8 or floats in [0, 1], and ``labels`` (N,), integers.
    Images are (N, H, W), (N, H, W, C) or (N, C, H, W). Of four axes, the one that is 1, 3 or 4 long
    is C where the other reading would not be an image; an array ``layout`` with the text ``NHWC``
    or ``NCHW`` decides where that is in doubt. An array ``classes`` may have the names of the
    classes.

    The training file is not needed until something is trained, or ``--part validation`` measured.
    Images of a file that is not compressed (``np.savez``) are mapped: only those that are used are
    read, and the checksum of the file is not looked at. Compressed images are read as a whole when
    the first is used.

    Args:
        stem: the common start of both paths; or one file, ``FILE.npz``, which is the test part.
        data_dir: ignored.
        download: ignored.

    Raises:
        OnrError: a file or an array is missing, damaged, or has the wrong shape or type, or it is
            in doubt which axis has the channels.

    Example:
        >>> images = np.zeros((3, 8, 8), dtype=np.uint8)
        >>> np.savez(tmp_path / "mine-test.npz", images=images, labels=np.arange(3))
        >>> npz(str(tmp_path / "mine"), data_dir=tmp_path).classes
        ('0', '1', '2')

    """
    alone = stem.endswith(".npz")
    test = _Part(Path(stem if alone else f"{stem}-test.npz"))
    fit = None if alone else Path(f"{stem}-train.npz")
    train = _Part(fit) if fit is not None and fit.exists() and test.classes is None else None
    classes = test.classes or (train.classes if train is not None else None)
    if classes is None:
        counted = [_counted(part) for part in (test, train) if part is not None]
        classes = tuple(str(index) for index in range(max(counted)))

    def training() -> Split:
        if fit is None:
            raise OnrError(f"npz:{stem} has no training part: npz:STEM reads STEM-train.npz")
        part = _Part(fit)
        if part.classes not in (None, classes):
            raise OnrError(f"{fit} has classes {part.classes}, the test part {classes}")
        return part.split()

    return Dataset(f"npz:{stem}", LaterSplit(training), test.split(), classes)


def stored(name: str, *, data_dir: Path, download: bool = False) -> Dataset:
    """The data set of :func:`npz` with the files ``NAME-test.npz`` and so on in ``data_dir``.

    Unlike ``npz:STEM``, this name does not contain the folder, so that a run's data may move.

    Args:
        name: the start of both file names.
        data_dir: the folder with the files.
        download: ignored.

    Raises:
        OnrError: a file or an array is missing, damaged, or has the wrong shape or type.

    Example:
        >>> images = np.zeros((3, 8, 8), dtype=np.uint8)
        >>> np.savez(tmp_path / "own-test.npz", images=images, labels=np.arange(3))
        >>> stored("own", data_dir=tmp_path).input_shape
        (1, 8, 8)

    """
    path = data_dir / f"{name}-test.npz"
    if not path.exists():
        raise OnrError(f"no file {path}: give --data-dir, the folder where it is")
    return npz(str(data_dir / name), data_dir=data_dir)


class _Part:
    """One file: its labels and classes, which are read, and its images, which are not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise OnrError(
                f"no file {path}: npz:STEM reads STEM-test.npz, and to train STEM-train.npz"
            )
        try:
            # np.load leaves a damaged file open, so it is opened here. A damaged zip may raise
            # any error (zlib.error, NotImplementedError, ...).
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                self.labels = arrays["labels"]
                self.classes = (
                    tuple(str(name) for name in arrays["classes"]) if "classes" in arrays else None
                )
                layout = str(arrays["layout"]) if "layout" in arrays else None
            self._shape, self._array = _images(path)
            self._stamp = _stamp(path)
        except Exception as error:
            raise _unreadable(path, error) from error
        self._axes = _axes(self._shape, layout, path)

    def split(self) -> Split:
        """The images and labels; the images are read when they are used."""
        shape, dtype = self._shape, self._array.dtype
        native = dtype.newbyteorder("=")

        def read(rows: np.ndarray) -> np.ndarray:
            if _stamp(self.path) != self._stamp:
                raise OnrError(f"{self.path} has changed since its labels were read: start again")
            try:
                found = self._array.read()[rows]
            except Exception as error:
                raise _unreadable(self.path, error) from error
            return _four(found).transpose(self._axes).astype(native, copy=False)

        whole = (*shape, 1) if len(shape) == 3 else shape
        one = tuple(whole[axis] for axis in self._axes[1:])
        where = f"{self.path}"
        return Split(StoredImages(one, native, np.arange(shape[0]), read, where=where), self.labels)


class _Array:
    """An array in a zip file, mapped where it is not compressed."""

    def __init__(
        self, path: Path, shape: tuple[int, ...], order: Any, dtype: np.dtype, offset: int | None
    ) -> None:
        self.dtype = dtype
        self._path, self._shape, self._order, self._offset = path, shape, order, offset

    @cache  # noqa: B019 - an array lives as long as its data set
    def read(self) -> np.ndarray:
        """The array, or a map of it."""
        if self._offset is not None:
            return np.memmap(
                self._path, self.dtype, "r", self._offset, self._shape, order=self._order
            )
        with self._path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            whole: np.ndarray = arrays["images"]
            return whole


def _images(path: Path) -> tuple[tuple[int, ...], _Array]:
    """The shape of the images, from their header, and the array, which is not read."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
        info = archive.getinfo("images.npy")
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            shape, fortran, dtype = HEADERS[version](member)
            header = member.tell()
        if dtype.hasobject:
            raise ValueError("the images are Python objects")
        offset = None
        if info.compress_type == zipfile.ZIP_STORED and math.prod(shape) > 0:
            raw.seek(info.header_offset + 26)
            name, extra = struct.unpack("<HH", raw.read(4))
            offset = info.header_offset + 30 + name + extra + header
            if header + math.prod(shape) * dtype.itemsize != info.file_size:
                raise ValueError("the images are cut short")
    return shape, _Array(path, shape, "F" if fortran else "C", dtype, offset)


def _stamp(path: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced or written to: reading a map of it then may crash."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return found.st_ino, found.st_size, found.st_mtime_ns


def _axes(shape: tuple[int, ...], layout: str | None, path: Path) -> tuple[int, int, int, int]:
    """Which axes of stored images are N, C, H and W."""
    if len(shape) not in (3, 4):
        raise OnrError(
            f"{path}: images have shape {shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W)"
        )
    if layout is not None and layout not in LAYOUTS:
        raise OnrError(f"{path}: layout is {layout!r}, expected {' or '.join(LAYOUTS)}")
    if layout is None:
        layout = "NHWC" if len(shape) == 3 else _layout(shape)
    if layout is None:
        raise OnrError(
            f"{path}: images have shape {shape}, and it is in doubt whether the second axis or the "
            "last has the channels: add an array to the file, layout='NHWC' or layout='NCHW'"
        )
    first, second, third, fourth = LAYOUTS[layout]
    return first, second, third, fourth


def _layout(shape: tuple[int, ...]) -> str | None:
    """The layout of ``(N, a, b, c)`` if it is beyond doubt.

    If only c is a number of channels of grey or colour images, channels are last. Otherwise the
    other reading has to be absurd: one side of a square taken for the channels, and fewer channels
    for a side; or colours taken for rows, and a side of sixteen or more for the channels. One row
    of many channels may be a signal.
    """
    _, first, middle, last = shape
    if first in CHANNELS and last in CHANNELS:
        return None
    if last in CHANNELS or (first == middle > last and first not in CHANNELS):
        return "NHWC"
    if middle == last > first or (first in (3, 4) and min(middle, last) >= MANY):
        return "NCHW"
    return None


def _four(images: np.ndarray) -> np.ndarray:
    """Images with four axes: grey ones have a last axis of length one."""
    return images[..., None] if images.ndim == 3 else images


def _counted(part: _Part) -> int:
    """The number of classes, from the labels."""
    labels = part.labels
    if labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise OnrError(
            f"{part.path}: labels are {labels.dtype} of shape {labels.shape}, expected integers, "
            "at least one"
        )
    return int(labels.max()) + 1


def _unreadable(path: Path, error: Exception) -> OnrError:
    return OnrError(
        f"{path} cannot be read ({error}): expected arrays 'images' and 'labels' that are not "
        "pickled"
    )
