"""Data sets of images with pixels in [0, 1]. No file is unpickled.

Each function takes ``data_dir``, the folder for the files of a downloaded data set, and
``download``, which allows it to fetch missing files.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from onr.data import Dataset, Split
from onr.errors import OnrError

__all__ = ["cifar10", "digits", "folder", "npz", "stored", "svhn"]

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
CHANNELS = (1, 3, 4)
"""How many channels grey, colour and transparent images have."""


def digits(*, data_dir: Path, download: bool = False) -> Dataset:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn bundles; no download.

    The first 1,437 images are the training part, the last 360 the test part.

    Example:
        >>> dataset = digits(data_dir=tmp_path)
        >>> dataset.train.images.shape, len(dataset.test)
        ((1437, 1, 8, 8), 360)

    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[:, None] / 16).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    return Dataset(
        "digits",
        Split(images[:DIGITS_TRAIN], labels[:DIGITS_TRAIN]),
        Split(images[DIGITS_TRAIN:], labels[DIGITS_TRAIN:]),
        tuple("0123456789"),
    )


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


def npz(stem: str, *, data_dir: Path, download: bool = False) -> Dataset:
    """The user's own arrays, in the files ``STEM-train.npz`` and ``STEM-test.npz``.

    Each file has the arrays ``images`` (N, H, W[, C]), uint8 or floats in [0, 1], and ``labels``
    (N,), integers. The training file may also have an array ``classes`` with the names of the
    classes.

    Args:
        stem: the common start of both paths.
        data_dir: ignored.
        download: ignored.

    Raises:
        OnrError: a file or an array is missing, damaged, or has the wrong shape or type; square
            images with the channels first, (N, C, H, W), are refused.

    Example:
        >>> images = np.zeros((3, 8, 8), dtype=np.uint8)
        >>> for part in ("train", "test"):
        ...     np.savez(tmp_path / f"mine-{part}.npz", images=images, labels=np.arange(3))
        >>> npz(str(tmp_path / "mine"), data_dir=tmp_path).classes
        ('0', '1', '2')

    """
    parts = []
    classes: tuple[str, ...] | None = None
    for part in ("train", "test"):
        path = Path(f"{stem}-{part}.npz")
        if not path.exists():
            raise OnrError(f"no file {path}: npz:STEM reads STEM-train.npz and STEM-test.npz")
        try:
            # np.load leaves a damaged file open, so it is opened here. A damaged zip may raise
            # any error (zlib.error, NotImplementedError, ...).
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                images, labels = arrays["images"], arrays["labels"]
                if "classes" in arrays and classes is None:
                    classes = tuple(str(name) for name in arrays["classes"])
        except Exception as error:
            raise OnrError(
                f"{path} cannot be read ({error}): expected arrays 'images' and 'labels' that are "
                "not pickled"
            ) from error
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim != 4:
            raise OnrError(f"{path}: images have shape {images.shape}, expected (N, H, W[, C])")
        _, height, width, channels = images.shape
        if height in CHANNELS and channels == width > max(CHANNELS):
            raise OnrError(
                f"{path}: images have shape {images.shape}, which reads as {height} x {width} "
                f"pixels of {channels} channels: expected (N, H, W[, C]); give "
                "images.transpose(0, 2, 3, 1)"
            )
        parts.append(Split(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels))
    if classes is None:
        labels = parts[0].labels
        if labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
            raise OnrError(
                f"npz:{stem}: labels are {labels.dtype} of shape {labels.shape}, "
                "expected integers, at least one"
            )
        classes = tuple(str(k) for k in range(int(parts[0].labels.max()) + 1))
    return Dataset(f"npz:{stem}", parts[0], parts[1], classes)


def stored(name: str, *, data_dir: Path, download: bool = False) -> Dataset:
    """The data set of :func:`npz` with the files ``NAME-train.npz`` and so on in ``data_dir``.

    Unlike ``npz:STEM``, this name does not contain the folder, so that a run's data may move.

    Args:
        name: the start of both file names.
        data_dir: the folder with the files.
        download: ignored.

    Raises:
        OnrError: a file or an array is missing, damaged, or has the wrong shape or type.

    Example:
        >>> images = np.zeros((3, 8, 8), dtype=np.uint8)
        >>> for part in ("train", "test"):
        ...     np.savez(tmp_path / f"own-{part}.npz", images=images, labels=np.arange(3))
        >>> stored("own", data_dir=tmp_path).input_shape
        (1, 8, 8)

    """
    for part in ("train", "test"):
        path = data_dir / f"{name}-{part}.npz"
        if not path.exists():
            raise OnrError(f"no file {path}: give --data-dir, the folder where it is")
    return npz(str(data_dir / name), data_dir=data_dir)


def folder(path: str, *, data_dir: Path, download: bool = False) -> Dataset:
    """The user's own image files, in ``PATH/train/CLASS/`` and ``PATH/test/CLASS/``.

    All images of a part must have one size. They are read as RGB, uint8.

    Args:
        path: the folder that contains ``train`` and ``test``.
        data_dir: ignored.
        download: ignored.

    Raises:
        OnrError: a folder is missing, the classes of the parts differ, an image cannot be read, or
            the images differ in size.

    """
    from torchvision.datasets import ImageFolder

    root = Path(path)
    parts = []
    classes: list[str] | None = None
    for part in ("train", "test"):
        try:
            found = ImageFolder(str(root / part))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise OnrError(f"folder:{path}: {error}") from error
        if classes is not None and found.classes != classes:
            raise OnrError(f"folder:{path}: test has classes {found.classes}, train has {classes}")
        classes = found.classes
        images: list[np.ndarray] = []
        for name, _ in found.samples:
            try:
                image = np.asarray(found.loader(name))
            except Exception as error:
                raise OnrError(f"{name} cannot be read as an image: {error}") from error
            if images and image.shape != images[0].shape:
                raise OnrError(
                    f"{name} has shape {image.shape}, the images before it {images[0].shape}: "
                    "all must have one size"
                )
            images.append(image)
        stacked = np.stack(images).transpose(0, 3, 1, 2)
        labels = np.array([label for _, label in found.samples], dtype=np.int64)
        parts.append(Split(np.ascontiguousarray(stacked), labels))
    return Dataset(f"folder:{path}", parts[0], parts[1], tuple(classes or ()))


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
