"""Stored images as a network's inputs, loaded a slice at a time."""

from __future__ import annotations

import numpy as np

from onr.data import pixels
from onr.protocols import BackendNetwork
from onr.typing import Array

__all__ = ["LoadedImages"]


class LoadedImages:
    """Images of a data set that a slice turns into inputs of a network.

    Args:
        network: gives the inputs their float type and device.
        images: ``(N, C, H, W)``, uint8 or floats in [0, 1].

    """

    def __init__(self, network: BackendNetwork, images: np.ndarray) -> None:
        self._network = network
        self._images = images

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images)

    def __getitem__(self, part: slice, /) -> Array:
        """These images with pixels in [0, 1], as the network takes them."""
        return self._network.asarray(pixels(self._images[part], "float64"))
