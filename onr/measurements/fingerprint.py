"""A hash that tells one model from another, for results that are kept and resumed."""

from __future__ import annotations

import hashlib

import numpy as np

from onr.arrays import in_float32, to_numpy
from onr.measurements.batches import Inputs
from onr.protocols import BackendNetwork

__all__ = ["fingerprint"]

FEW = 10
"""At how many inputs the logits enter the hash."""


def fingerprint(
    network: BackendNetwork, x: Inputs, y: np.ndarray, /, *, values: bool = True
) -> str:
    """A hash of the parameters, the labels and, with ``values``, the logits of a few inputs.

    The logits tell models of the same parameters and other code apart. Leave them out for a model
    whose answers vary.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> len(fingerprint(network, np.zeros((4, 3)), np.zeros(4, int)))
        64

    """
    found = hashlib.sha256(y.tobytes() + str(len(x)).encode())
    for name, value in network.parameters().items():
        found.update(name.encode() + np.ascontiguousarray(value).tobytes())
    if values:
        found.update(to_numpy(in_float32(network(x[: min(FEW, len(x))]))).tobytes())
    return found.hexdigest()
