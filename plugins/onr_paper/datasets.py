"""Data sets by name, of images with pixels in [0, 1]. No file is unpickled.

Each function takes ``data_dir``, the folder for the files of a downloaded data set, and
``download``, which allows it to fetch missing files.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onr.data import Dataset, Split
from onr.errors import OnrError

__all__ = ["cifar10", "digits", "svhn"]

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
DIGITS_TRAIN = 1437


def digits(*, data_dir: Path, download: bool = False) -> Dataset:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn bundles; no download.

    The first 1,437 images are the training part, the last 360 the test part.

    Example:
        >>> dataset = digits(data_dir=tmp_path)
        >>> dataset.train.images.shape, len(dataset.test)
        ((1437, 1, 8, 8), 360)

    """
    from sklearn.datasets import load_digits

    bunch = _once(load_digits)
    images = (bunch.images[:, None] / 16).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    return Dataset(
        "digits",
        Split(images[:DIGITS_TRAIN], labels[:DIGITS_TRAIN]),
        Split(images[DIGITS_TRAIN:], labels[DIGITS_TRAIN:]),
        tuple("0123456789"),
    )


@functools.cache
def _once(load: Callable[[], Any]) -> Any:
    """What ``load`` returns: scikit-learn parses a text file each time."""
    return load()


def cifar10(*, data_dir: Path, download: bool = False) -> Dataset:
    """CIFAR-10, read from its binary archive, whose records need no unpickling.

    Raises:
        OnrError: the archive is missing and ``download`` is false, the download failed, or the
            checksum of the archive is wrong.

    """
    from torchvision.datasets.utils import check_integrity, download_url

    archive = data_dir / "cifar-10-binary.tar.gz"
    if not archive.exists():
        _require_download("cifar10", archive, download)
        _download(
            "cifar10",
            lambda: download_url(CIFAR10_URL, str(data_dir), archive.name, CIFAR10_MD5),
        )
    if not check_integrity(str(archive), CIFAR10_MD5):
        raise OnrError(f"{archive} is damaged (checksum): delete it and download it again")
    with tarfile.open(archive) as tar:

        def read(name: str) -> Split:
            member = tar.extractfile(f"cifar-10-batches-bin/{name}")
            assert member is not None  # noqa: S101 - the checksum vouches for the members
            records = np.frombuffer(member.read(), dtype=np.uint8).reshape(-1, 3073)
            return Split(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64))

        batches = [read(f"data_batch_{k}.bin") for k in range(1, 6)]
        train = Split(
            np.concatenate([b.images for b in batches]), np.concatenate([b.labels for b in batches])
        )
        return Dataset("cifar10", train, read("test_batch.bin"), CIFAR10_CLASSES, "crop-flip")


def svhn(*, data_dir: Path, download: bool = False) -> Dataset:
    """The cropped digits of SVHN, for non-commercial use.

    Raises:
        OnrError: a file is missing and ``download`` is false, the download failed, or a file is
            damaged.

    """
    from torchvision.datasets import SVHN

    for split in ("train", "test"):
        if not (data_dir / f"{split}_32x32.mat").exists():
            _require_download("svhn", data_dir / f"{split}_32x32.mat", download)

    def read(split: str) -> Split:
        try:
            part = SVHN(str(data_dir), split=split, download=download)
        except RuntimeError as error:
            raise OnrError(
                f"{data_dir / f'{split}_32x32.mat'} is damaged or could not be downloaded "
                f"({error}): delete it and download it again"
            ) from error
        return Split(part.data, part.labels.astype(np.int64))

    parts: list[Split] = []
    _download("svhn", lambda: parts.extend([read("train"), read("test")]))
    return Dataset("svhn", parts[0], parts[1], tuple("0123456789"), "crop")


def _require_download(name: str, path: Path, allowed: bool) -> None:
    if not allowed:
        raise OnrError(
            f"no file {path}: give --data-dir where {name} is, or --download to fetch it there"
        )


def _download(name: str, fetch: Callable[[], None]) -> None:
    try:
        fetch()
    except (OSError, RuntimeError) as error:
        raise OnrError(f"{name} could not be downloaded: {error}") from error
