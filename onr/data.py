"""Labelled images: data sets and their parts, images on disk, float pixels, and augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from onr.architectures import Normalize
from onr.arrays import array_namespace, device, sent
from onr.class_names import outputs_of
from onr.errors import OnrError
from onr.typing import Array

__all__ = [
    "AUGMENTATIONS",
    "PARTS",
    "Dataset",
    "LaterSplit",
    "Preparation",
    "Split",
    "StoredImages",
    "augment",
    "pixels",
    "validation_split",
]

AUGMENTATIONS = ("none", "crop", "crop-flip")
"""The kinds of augmentation that :func:`augment` knows."""
PARTS = ("test", "validation")
"""The parts of a data set that a model can be measured on."""
PAD = 4
"""The largest shift of an image by augmentation, in pixels."""


@dataclass(frozen=True)
class Preparation:
    """How photographs become the inputs of a model: resized, then cropped at the centre.

    Example:
        >>> print(Preparation(256, (224, 224), "bilinear"))
        shorter side resized to 256 (bilinear), centre crop of 224 x 224
        >>> print(Preparation((224, 224), (224, 224)))
        resized to 224 x 224 (bicubic)

    """

    resize: int | tuple[int, int]
    """The length of the shorter side, the other in proportion; or height and width."""
    crop: tuple[int, int]
    """Height and width of the crop at the centre, which the model is given."""
    interpolation: str = "bicubic"
    """``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``, with antialiasing."""

    def __str__(self) -> str:
        """The steps in words, for records."""
        crop = " x ".join(map(str, self.crop))
        if self.resize == self.crop:
            return f"resized to {crop} ({self.interpolation})"
        side = "resized to " + " x ".join(map(str, np.atleast_1d(self.resize)))
        if isinstance(self.resize, int):
            side = f"shorter side {side}"
        return f"{side} ({self.interpolation}), centre crop of {crop}"


class StoredImages:
    """Images that are read from disk when they are used.

    A slice, or indices, select images without reading them; ``np.asarray`` reads the selection.

    Args:
        shape: the shape of one image, ``(C, H, W)``.
        dtype: uint8, or a float type.
        rows: the numbers of the images.
        read: gives the images of these numbers, ``(N, C, H, W)``.
        where: how errors name the images.
        files: the file of each image that ``read`` knows, if each has its own.

    Example:
        >>> images = StoredImages((1, 2, 2), np.uint8, np.arange(9), lambda rows: np.stack(
        ...     [np.full((1, 2, 2), row, np.uint8) for row in rows]), where="nines")
        >>> images[2:5].shape, np.asarray(images[2:5])[:, 0, 0, 0].tolist()
        ((3, 1, 2, 2), [2, 3, 4])

    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype | type,
        rows: np.ndarray,
        read: Callable[[np.ndarray], np.ndarray],
        *,
        where: str,
        files: Sequence[str] | None = None,
    ) -> None:
        self.shape = (len(rows), *shape)
        """``(N, C, H, W)``."""
        self.ndim = len(self.shape)
        self.dtype = np.dtype(dtype)
        self._rows, self._read, self._where, self._files = rows, read, where, files

    def __len__(self) -> int:
        """The number of images."""
        return len(self._rows)

    def __getitem__(self, part: slice | np.ndarray, /) -> StoredImages:
        """Some of the images, which are not read yet."""
        return StoredImages(
            self.shape[1:],
            self.dtype,
            self._rows[part],
            self._read,
            where=self._where,
            files=self._files,
        )

    @property
    def files(self) -> list[str] | None:
        """The file of each image; ``None`` if they are not known."""
        return None if self._files is None else [self._files[row] for row in self._rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read the images.

        Raises:
            OnrError: an image cannot be read, or pixels are outside [0, 1].

        """
        images = self._read(self._rows)
        if images.size:
            _check_pixels(images, self._where)
        return images if dtype is None else images.astype(dtype)


@dataclass(frozen=True)
class Split:
    """Images ``(N, C, H, W)``, uint8 or float in [0, 1], and their labels ``(N,)``.

    Example:
        >>> split = Split(np.zeros((3, 1, 8, 8)), np.array([0, 1, 2]))
        >>> len(split), len(split.take(2))
        (3, 2)

    """

    images: np.ndarray | StoredImages
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

    @property
    def files(self) -> list[str] | None:
        """The file of each image; ``None`` if they are not known."""
        return self.images.files if isinstance(self.images, StoredImages) else None

    def take(self, count: int | None) -> Split:
        """The first ``count`` images and labels, or all if ``count`` is ``None``.

        Raises:
            OnrError: ``count`` is below 1, or the split has fewer images.

        """
        if count is None:
            return self
        if not 1 <= count <= len(self):
            raise OnrError(f"{count} images asked for: expected 1 to {len(self)}")
        return Split(self.images[:count], self.labels[:count])


class LaterSplit(Split):
    """A split that is made, by calling a function, when its images or labels are first used.

    Example:
        >>> split = LaterSplit(lambda: Split(np.zeros((3, 1, 8, 8)), np.array([0, 1, 2])))
        >>> len(split)
        3

    """

    def __init__(self, make: Callable[[], Split]) -> None:
        object.__setattr__(self, "make", make)

    @cached_property
    def _made(self) -> Split:
        made: Split = self.make()  # type: ignore[attr-defined]  # a frozen dataclass sets it so
        return made

    @property
    def images(self) -> np.ndarray | StoredImages:
        """Images ``(N, C, H, W)``, uint8 or float in [0, 1]."""
        return self._made.images

    @property
    def labels(self) -> np.ndarray:
        """Labels ``(N,)``."""
        return self._made.labels


@dataclass(frozen=True)
class Dataset:
    """A training and a test part, the names of the classes, and how to augment the training part.

    Parts are checked when they are made: a :class:`LaterSplit` when it is first used.

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
    preparation: str | None = None
    """How the stored images became the images of the parts, in words; ``None`` for as they are."""

    def __post_init__(self) -> None:
        self._check("test", self.test)
        train = self.train
        if isinstance(train, LaterSplit):
            object.__setattr__(self, "train", LaterSplit(lambda: self._check("train", train)))
        else:
            self._check("train", train)

    def _check(self, part: str, split: Split) -> Split:
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
        if isinstance(images, np.ndarray):
            _check_pixels(images, where)
        return split

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image, ``(C, H, W)``."""
        return self.test.images.shape[1:]

    def part(self, name: str) -> Split:
        """The ``test`` part, or the ``validation`` part, on which no run trains.

        Raises:
            OnrError: ``name`` is neither ``test`` nor ``validation``.

        """
        if name not in PARTS:
            raise OnrError(f"part = {name!r}: expected {' or '.join(PARTS)}")
        return self.test if name == "test" else validation_split(self.train)[1]

    def labelled_for(self, names: Sequence[str], *, model: str) -> Dataset:
        """The same images, labelled by the outputs of a model, whose classes become the data set's.

        Args:
            names: the class of each output; :func:`onr.class_names.outputs_of` says how they are
                compared with the data set's.
            model: how errors name the model.

        Raises:
            OnrError: it is not beyond doubt which output a class of the data set is.

        """
        outputs = np.array(
            outputs_of(self.classes, names, data=f"data set {self.name}", model=model), np.int64
        )

        def relabelled(split: Split) -> Split:
            return Split(split.images, outputs[split.labels])

        train = self.train
        return replace(
            self,
            test=relabelled(self.test),
            train=LaterSplit(lambda: relabelled(train)),
            classes=tuple(names),
        )

    def normalization(self) -> Normalize:
        """The mean and standard deviation of each channel over the training part, pixels in [0, 1].

        A standard deviation of zero (a constant channel) is replaced by 1.
        """
        x = np.asarray(self.train.images)
        scale = 255.0 if x.dtype == np.uint8 else 1.0
        mean = np.array([np.mean(x[:, c], dtype=np.float64) for c in range(x.shape[1])]) / scale
        std = np.array([np.std(x[:, c], dtype=np.float64) for c in range(x.shape[1])]) / scale
        std = np.where(std > 0, std, 1.0)
        return Normalize(tuple(mean.tolist()), tuple(std.tolist()))


def _check_pixels(images: np.ndarray, where: str) -> None:
    if images.dtype != np.uint8 and not (images.min() >= 0 and images.max() <= 1):
        raise OnrError(
            f"{where}: pixels run from {images.min():g} to {images.max():g}, expected uint8, or "
            "floats in [0, 1]"
        )


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
    shifts = rng.integers(-PAD, PAD + 1, (count, 2))
    flipped = np.zeros(count) if kind == "crop" else rng.random(count) < 0.5
    # One small array goes to the device; the indices are made there.
    drawn = sent(np.column_stack([shifts, flipped]).astype(np.int64), images)
    where = device(images)
    rows = drawn[:, :1] + xp.arange(height, device=where)
    columns = drawn[:, 1:2] + xp.arange(width, device=where)
    columns = xp.where(drawn[:, 2:] > 0, xp.flip(columns, axis=1), columns)
    inside = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    rows, columns = xp.clip(rows, 0, height - 1), xp.clip(columns, 0, width - 1)
    example = xp.arange(count, device=where)[:, None, None, None]
    channel = xp.arange(channels, device=where)[:, None, None]
    row, column = rows[:, None, :, None], columns[:, None, None, :]
    mask = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images[example, channel, row, column] * mask
