"""Stored images as inputs of a network, converted one slice at a time."""

from __future__ import annotations

import numpy as np

from onr.data import StoredImages, pixels
from onr.protocols import BackendNetwork
from onr.typing import Array

__all__ = ["LoadedImages"]


class LoadedImages:
    """Images of a data set. Slicing converts the selected images to inputs of a network.

    Args:
        network: determines the float type and the device of the inputs.
        images: ``(N, C, H, W)``, uint8 or floats in [0, 1]; those on disk are read slice by slice.

    Example:
        >>> from onr.training.config import TrainConfig
        >>> from onr.training.subject import Subject
        >>> network = Subject(TrainConfig(backend="numpy", dataset="digits")).network
        >>> x = LoadedImages(network, np.full((5, 1, 8, 8), 255, dtype=np.uint8))
        >>> len(x), x[:2].shape, x[:2].dtype.name, float(x[:2].max())
        (5, (2, 1, 8, 8), 'float32', 1.0)

    """

    def __init__(self, network: BackendNetwork, images: np.ndarray | StoredImages) -> None:
        self._network = network
        self._images = images

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images)

    def __getitem__(self, part: slice, /) -> Array:
        """The selected images, pixels in [0, 1], as an array of the network's backend."""
        return self._network.asarray(pixels(np.asarray(self._images[part]), "float64"))
