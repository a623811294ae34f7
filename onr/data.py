"""Labelled images in memory: data sets and their parts, float pixels, and augmentation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onr.architectures import Normalize
from onr.arrays import array_namespace, device
from onr.errors import OnrError
from onr.typing import Array

__all__ = ["AUGMENTATIONS", "PARTS", "Dataset", "Split", "augment", "pixels", "validation_split"]

AUGMENTATIONS = ("none", "crop", "crop-flip")
"""The kinds of augmentation that :func:`augment` knows."""
PARTS = ("test", "validation")
"""The parts of a data set that a model can be measured on."""
PAD = 4
"""The largest shift of an image by augmentation, in pixels."""


@dataclass(frozen=True)
class Split:
    """Images ``(N, C, H, W)``, uint8 or float in [0, 1], and their labels ``(N,)``.

    Example:
        >>> split = Split(np.zeros((3, 1, 8, 8)), np.array([0, 1, 2]))
        >>> len(split), len(split.take(2))
        (3, 2)

    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        """Store arrays in the byte order of the machine, which other libraries need."""
        for name in ("images", "labels"):
            array = getattr(self, name)
            if not array.dtype.isnative:
                object.__setattr__(self, name, array.astype(array.dtype.newbyteorder("=")))

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def take(self, count: int | None) -> Split:
        """The first ``count`` images and labels, or all if ``count`` is ``None``.

        Raises:
            OnrError: ``count`` is below 1, or the split has fewer images.

        """
        if count is None:
            return self
        if not 1 <= count <= len(self):
            raise OnrError(f"{count} images asked for: expected 1 to {len(self)}")
        return replace(self, images=self.images[:count], labels=self.labels[:count])


@dataclass(frozen=True)
class Dataset:
    """A training and a test part, the names of the classes, and how to augment the training part.

    Raises:
        OnrError: shapes, labels or pixels are invalid; the message says which.

    Example:
        >>> part = Split(np.zeros((10, 1, 8, 8), dtype=np.uint8), np.arange(10) % 2)
        >>> dataset = Dataset("mine", train=part, test=part, classes=("even", "odd"))
        >>> dataset.input_shape, len(dataset.part("validation"))
        ((1, 8, 8), 1)

    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    augmentation: str = "none"

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("test", self.test)):
            where = f"data set {self.name}, {part} part"
            images, labels = split.images, split.labels
            if images.ndim != 4 or images.shape[1:] != self.input_shape:
                raise OnrError(
                    f"{where}: images have shape {images.shape}, expected (N, C, H, W) with "
                    f"(C, H, W) = {self.input_shape}"
                )
            if labels.shape != (len(images),) or len(images) == 0:
                raise OnrError(
                    f"{where}: labels have shape {labels.shape}, expected ({len(images)},), "
                    "one for each of at least one image"
                )
            if 0 in images.shape:
                raise OnrError(f"{where}: images have shape {images.shape}: none may be empty")
            if images.dtype != np.uint8 and images.dtype.kind not in "fiub":
                raise OnrError(f"{where}: images are {images.dtype}, expected uint8 or floats")
            if not np.issubdtype(labels.dtype, np.integer):
                raise OnrError(f"{where}: labels are {labels.dtype}, expected integers")
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise OnrError(
                    f"{where}: labels run from {labels.min()} to {labels.max()}, expected 0 to "
                    f"{len(self.classes) - 1}"
                )
            if images.dtype != np.uint8 and not (images.min() >= 0 and images.max() <= 1):
                raise OnrError(
                    f"{where}: pixels run from {images.min():g} to {images.max():g}, expected "
                    "uint8, or floats in [0, 1]"
                )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image, ``(C, H, W)``."""
        return self.train.images.shape[1:]

    def part(self, name: str) -> Split:
        """The ``test`` part, or the ``validation`` part, on which no run trains.

        Raises:
            OnrError: ``name`` is neither ``test`` nor ``validation``.

        """
        if name not in PARTS:
            raise OnrError(f"part = {name!r}: expected {' or '.join(PARTS)}")
        return self.test if name == "test" else validation_split(self.train)[1]

    def normalization(self) -> Normalize:
        """The mean and standard deviation of each channel over the training part, pixels in [0, 1].

        A standard deviation of zero (a constant channel) is replaced by 1.
        """
        x = self.train.images
        scale = 255.0 if x.dtype == np.uint8 else 1.0
        mean = np.array([np.mean(x[:, c], dtype=np.float64) for c in range(x.shape[1])]) / scale
        std = np.array([np.std(x[:, c], dtype=np.float64) for c in range(x.shape[1])]) / scale
        std = np.where(std > 0, std, 1.0)
        return Normalize(tuple(mean.tolist()), tuple(std.tolist()))


def validation_split(train: Split) -> tuple[Split, Split]:
    """Split the training part into images to train on and images to validate on.

    The validation images are the last tenth, at least 1 and at most 1,000.

    Example:
        >>> fit, validation = validation_split(Split(np.zeros((50, 1, 8, 8)), np.zeros(50, int)))
        >>> len(fit), len(validation)
        (45, 5)

    """
    count = min(1000, max(1, len(train) // 10))
    return (
        Split(train.images[:-count], train.labels[:-count]),
        Split(train.images[-count:], train.labels[-count:]),
    )


def pixels(images: Array, dtype: str = "float32") -> Array:
    """Convert images to floats in [0, 1], on the device that holds them.

    uint8 images are divided by 255; others are only cast.

    Example:
        >>> pixels(np.array([0, 51, 255], dtype=np.uint8))
        array([0. , 0.2, 1. ], dtype=float32)

    """
    xp = array_namespace(images)
    floats = xp.astype(images, getattr(xp, dtype))
    return floats / 255 if images.dtype == xp.uint8 else floats


def augment(images: Array, kind: str, rng: np.random.Generator) -> Array:
    """Augment a batch ``(N, C, H, W)`` as in section 7.10, on the device that holds it.

    ``crop`` pads each image by four zeros on each side and crops it to the original size at a
    random position. ``crop-flip`` also mirrors each image with probability one half. ``none``
    returns the batch unchanged.

    Example:
        >>> images = np.ones((2, 3, 8, 8), dtype=np.uint8)
        >>> augment(images, "crop-flip", np.random.default_rng(0)).shape
        (2, 3, 8, 8)

    """
    if kind == "none":
        return images
    xp = array_namespace(images)
    count, channels, height, width = images.shape
    top, left = rng.integers(-PAD, PAD + 1, (count, 2)).T
    rows, columns = top[:, None] + np.arange(height), left[:, None] + np.arange(width)
    inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    if kind == "crop-flip":
        flipped = (rng.random(count) < 0.5)[:, None]
        columns = np.where(flipped, columns[:, ::-1], columns)
        inside = inside[0], np.where(flipped, inside[1][:, ::-1], inside[1])
    example, channel, row, column, mask = (
        xp.asarray(array, device=device(images))
        for array in (
            np.arange(count)[:, None, None, None],
            np.arange(channels)[:, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
            inside[0][:, None, :, None] & inside[1][:, None, None, :],
        )
    )
    return images[example, channel, row, column] * mask
