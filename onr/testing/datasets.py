"""The laws of a data set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onr.data import AUGMENTATIONS, Dataset, Split
from onr.errors import OnrError
from onr.testing.laws import Law, Laws, law, require

__all__ = ["check_dataset", "dataset_laws"]

IMAGES = 2000
"""The most images of a part that are read."""


def check_dataset(make: Callable[[], Dataset]) -> None:
    """Check the parts of a data set: shapes, pixels and labels, and that both are always the same.

    Args:
        make: makes the data set, as ``lambda: my_data(data_dir=folder, download=False)``; it is
            called twice.

    Raises:
        AssertionError: a law is broken; the message says which, and at which image.

    Example:
        >>> from onr_paper.datasets import digits
        >>> check_dataset(lambda: digits(data_dir=tmp_path, download=False))

    """
    require(dataset_laws(make))


def dataset_laws(make: Callable[[], Dataset]) -> Laws:
    """The laws that :func:`check_dataset` checks, one after the other."""
    valid = "shapes, labels and pixels are valid"
    try:
        dataset, again = make(), make()
        parts = {name: (getattr(dataset, name), getattr(again, name)) for name in ("train", "test")}
        for one, other in parts.values():
            len(one), len(other)  # a part that is made later is checked now
    except OnrError as error:
        yield Law(valid, broken=str(error))
        return
    yield law(valid, isinstance(dataset, Dataset), type=type(dataset).__name__)
    names = dataset.classes
    texts = len(set(names)) == len(names) and all(isinstance(name, str) for name in names)
    yield law("each class has a name of its own", texts, classes=names)
    known = dataset.augmentation in AUGMENTATIONS
    yield law("the augmentation is known", known, augmentation=dataset.augmentation)
    for name, (one, other) in parts.items():
        for each in _part(one, other, dataset):
            yield Law(f"{name} part: {each.text}", each.broken)


def _part(split: Split, again: Split, dataset: Dataset) -> Laws:
    labels, count = np.asarray(split.labels), len(dataset.classes)
    whole = labels.dtype.kind in "iu" and labels.ndim == 1
    yield law("labels are whole numbers, one for each image", whole, dtype=str(labels.dtype))
    classes = (labels >= 0) & (labels < count)
    yield law("labels are classes, from 0", classes, label=labels, classes=count)
    images = np.asarray(split.images[:IMAGES])
    shape = images.shape[1:] == tuple(dataset.input_shape)
    yield law("images are (N, C, H, W), all of one shape", shape, shape=images.shape)
    bytes_or_floats = images.dtype == np.uint8 or images.dtype.kind == "f"
    yield law("images are bytes, or floats", bytes_or_floats, dtype=str(images.dtype))
    pixels = np.ones(1) if images.dtype == np.uint8 else (images >= 0) & (images <= 1)
    yield law("pixels of floats are in [0, 1]", pixels, image=images)
    few = slice(1, 4)
    sliced = (np.asarray(split.images[few]) == images[few]).all()
    yield law("a slice of the images is those images", sliced, rows="1 to 3")
    same = len(split) == len(again) and (labels == again.labels).all()
    yield law("one data set each time: labels", same)
    same = (np.asarray(again.images[:IMAGES]) == images).all()
    yield law("one data set each time: images", same)
