"""The convention at a wall of a cell, which no random draw meets: a ReLU at exactly 0 is off."""

from __future__ import annotations

import math

import numpy as np

from onr.architectures import Affine, Architecture, ReLU
from onr.arrays import to_numpy
from onr.norms import LpNorm
from onr.training.protocols import Backend

__all__ = ["wall_failures"]


def wall_failures(backend: Backend) -> list[str]:
    """What a backend does otherwise at ``f(x) = relu(x_1) + relu(x_2)``, ``x = (0, 1)``.

    The first unit is off there, so that ``J = (0, 1)``, and the cell has the radius 0.

    Example:
        >>> from onr_numpy.backend import NumpyBackend
        >>> wall_failures(NumpyBackend())
        []

    """
    model = Architecture((2,), (Affine(2), ReLU(), Affine(1)))
    parameters = {
        "0.weight": np.eye(2),
        "0.bias": np.zeros(2),
        "2.weight": np.ones((1, 2)),
        "2.bias": np.zeros(1),
    }
    network = backend.build(model, parameters=parameters, dtype="float64")
    x = network.asarray(np.array([[0.0, 1.0]]))
    here = network.linearize(x)
    found = [
        ("J v", here.jvp(network.asarray(np.array([[1.0, 0.0]]))), [[0.0]]),
        ("J^T u", here.vjp(network.asarray(np.ones((1, 1)))), [[0.0, 1.0]]),
        ("the activation pattern", network.activation_pattern(x), [[False, True]]),
        *(("the cell's radius", network.cell_radius(x, p=LpNorm(p)), [0.0]) for p in (1, math.inf)),
    ]
    return [
        f"{name} at a unit that is exactly 0 is {to_numpy(value).tolist()}, expected {wanted}"
        for name, value, wanted in found
        if to_numpy(value).tolist() != wanted
    ]
