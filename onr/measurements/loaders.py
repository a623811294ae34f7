"""Inputs and labels from what a training loop reads: a data set, or an iterable of batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from array_api_compat import is_numpy_array, to_device

from onr.arrays import array_namespace, to_numpy
from onr.errors import OnrError
from onr.measurements.batches import Inputs
from onr.protocols import BackendNetwork
from onr.typing import Array

__all__ = ["extent", "labelled", "taken"]


def labelled(model: Any, x: Any, y: Any, /, *, required: bool = True) -> tuple[Inputs, Any]:
    """Inputs that are read in slices, and their labels, from what a user has.

    Args:
        model: inputs of a data set or of batches move to the device of its first parameter.
        x: an array of inputs, which is returned as it is; a data set with a length and an index,
            whose items are pairs of an image and a label, as those of torch; or an iterable of
            such pairs, or of batches ``(images, labels)``, such as a ``DataLoader``. An iterable
            is read once and held in memory. A data set is read once for its labels and the extent
            of its pixels, and then item by item where it is measured: reading an item twice has to
            give the same image.
        y: the labels of an array, or nothing.
        required: whether an array must have labels.

    Raises:
        OnrError: ``x`` is none of these, is empty, has labels and is given ``y`` too, has none, or
            its images differ in shape or type, or in number from their labels.

    Example:
        >>> x, y = np.zeros((5, 3)), np.arange(5)
        >>> found, labels = labelled(None, [(x[:2], y[:2]), (x[2:], y[2:])], None)
        >>> found.shape, labels.tolist()
        ((5, 3), [0, 1, 2, 3, 4])

    """
    if hasattr(x, "shape"):
        if y is None and required:
            raise OnrError("give y, the label of each input")
        return x, y
    if y is not None:
        raise OnrError(
            f"x is a {type(x).__name__}: expected an array, whose labels are y; of a data set or a "
            "loader, which has the labels, leave y out"
        )
    if isinstance(x, Mapping):
        raise OnrError(
            f"x is a {type(x).__name__}: expected a data set of pairs (image, label); give one of "
            "its parts"
        )
    if hasattr(x, "__getitem__") and hasattr(x, "__len__") and len(x) > 0:
        try:
            first = x[0]
        except NotImplementedError:  # an IterableDataset of torch
            first = None
        if first is not None and _pair(first)[1].ndim == 0:
            items = _Items(model, x)
            return items, items.labels
    try:
        pairs = [_pair(element) for element in x]
    except TypeError as error:
        raise OnrError(
            f"x is a {type(x).__name__}: expected an array, a data set with a length and an index, "
            "or an iterable of batches (images, labels)"
        ) from error
    if not pairs:
        raise OnrError("x has no inputs: expected at least one batch (images, labels)")
    images = [one[None] if label.ndim == 0 else one for one, label in pairs]
    _require_one_size(images)
    whole = array_namespace(images[0]).concat(images)
    return _placed(model, whole), np.concatenate([np.atleast_1d(label) for _, label in pairs])


def extent(x: Any, /) -> tuple[float, float]:
    """The smallest and the largest value of inputs that :func:`labelled` gave.

    Those that are no real floats, or none at all, have ``(inf, -inf)``; one NaN may make both NaN.
    Inputs of a data set are not read again.

    Example:
        >>> extent(np.array([[0.5, -1.0], [2.0, 0.0]]))
        (-1.0, 2.0)

    """
    if isinstance(x, _Items):
        return x.extent
    xp = array_namespace(x)
    if math.prod(x.shape) == 0 or not xp.isdtype(x.dtype, "real floating"):
        return math.inf, -math.inf
    return float(xp.min(x)), float(xp.max(x))


def taken(network: BackendNetwork, x: Inputs, /) -> Inputs:
    """Inputs that :func:`labelled` gave, as arrays of the package that the network works with.

    A network of JAX works with NumPy on the CPU, for example. Inputs of that package are returned
    as they are.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network, x = NumpyBackend().build(Architecture((3,), (Affine(2),))), np.zeros((5, 3))
        >>> taken(network, x) is x
        True

    """
    own = array_namespace(network.asarray(np.zeros(1)))
    given = x.namespace if isinstance(x, _Items) else array_namespace(x)
    if given is own:
        return x
    converted = _Converted(network, x)
    return converted[:] if hasattr(x, "shape") else converted


class _Converted:
    """Inputs that are converted where they are read."""

    def __init__(self, network: BackendNetwork, x: Inputs) -> None:
        self._network, self._x = network, x

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, part: slice, /) -> Array:
        return self._network.asarray(to_numpy(self._x[part]))


class _Items:
    """Images of a data set, read once for what is told of all, and then where they are used."""

    def __init__(self, model: Any, dataset: Any) -> None:
        self._model, self._dataset = model, dataset
        labels, extents = [], []
        for index in range(len(dataset)):
            image, label = _pair(dataset[index])
            labels.append(label)
            extents.append(extent(image))
            self.namespace = array_namespace(image)
        self.labels = np.array(labels)
        lows, highs = zip(*extents, strict=True)
        self.extent = min(lows), max(highs)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, part: slice, /) -> Array:
        images = [_pair(self._dataset[index])[0] for index in range(len(self))[part]]
        _require_one_size([image[None] for image in images])
        return _placed(self._model, array_namespace(images[0]).stack(images))


def _pair(element: Any) -> tuple[Array, np.ndarray]:
    """An image and its label, or a batch of images and their labels."""
    if not isinstance(element, tuple | list) or len(element) != 2:
        raise OnrError(
            f"x has a {type(element).__name__} as an element: expected pairs (image, label), or "
            "batches (images, labels)"
        )
    image, label = element
    if not hasattr(image, "shape"):
        raise OnrError(
            f"x has images that are a {type(image).__name__}: expected arrays of pixels in [0, 1]; "
            "give the data set a transform, as ToTensor()"
        )
    label = np.asarray(to_numpy(label) if hasattr(label, "shape") else label)
    if label.ndim > 0 and (label.ndim > 1 or image.shape[:1] != label.shape):
        raise OnrError(
            f"x has images of shape {tuple(image.shape)} with labels of shape {label.shape}: "
            "expected one label for each image of a batch, or a number for a single image"
        )
    return image, label


def _require_one_size(images: list[Array]) -> None:
    """Refuse batches whose images differ in shape or type."""
    first = images[0]
    for image in images:
        if image.shape[1:] != first.shape[1:] or image.dtype != first.dtype:
            raise OnrError(
                f"x has images of shape {tuple(first.shape[1:])} and {tuple(image.shape[1:])}, "
                f"{first.dtype} and {image.dtype}: expected one shape and type; resize and crop "
                "in the data set's transform"
            )


def _placed(model: Any, x: Array) -> Array:
    """The inputs on the device of the model's first parameter, where it has one."""
    module = getattr(model, "module", model)  # the module of a network
    first: Any = next(iter(getattr(module, "parameters", list)()), None)
    if is_numpy_array(x) or not hasattr(first, "device"):
        return x
    return to_device(x, first.device)
