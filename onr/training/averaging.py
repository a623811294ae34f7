"""The exponential average of the weights of a training, for every backend."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.arrays import array_namespace, like, to_numpy
from onr.typing import Array

__all__ = ["WeightAverage"]


class WeightAverage:
    """The exponential average of a network's weights over the steps of training.

    The average starts as the initial weights. After step t = 1, 2, ... it becomes ``d * average +
    (1 - d) * weights`` with ``d = min(decay, (1 + t) / (10 + t))``, the warm-up of TensorFlow's
    ``ExponentialMovingAverage``, so that early weights do not count for long. Every array of
    floating-point numbers is averaged, the running statistics of batch normalisation too: those of
    the last step belong to other weights (Izmailov et al., 2018, compute them anew for the same
    reason). Other arrays, such as the number of batches seen, are those of the last step. What is
    constant stays as it is, bit for bit.

    Args:
        decay: the largest weight of the past, in (0, 1).
        weights: the initial weights and running statistics, by name.

    Example:
        >>> average = WeightAverage(0.9, {"weight": np.zeros(1)})
        >>> average.update({"weight": np.ones(1)}, step=8)
        >>> average.weights["weight"]
        array([0.5])

    """

    def __init__(self, decay: float, weights: Mapping[str, Array]) -> None:
        self.decay = decay
        self.weights = {name: _copied(value) for name, value in weights.items()}
        """The averaged weights and statistics by name, on the device of the training."""

    def update(self, weights: Mapping[str, Array], /, *, step: int) -> None:
        """Take in the weights after this step, counted from 1."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        # The training loop looks for weights that are not finite, so they need no warning here.
        with np.errstate(over="ignore", invalid="ignore"):
            for name, average in self.weights.items():
                if _is_floating(average):
                    average += share * (weights[name] - average)
                else:
                    average[...] = weights[name]

    def state(self) -> dict[str, np.ndarray]:
        """A copy of the averaged weights, as NumPy arrays by name."""
        return {name: np.array(to_numpy(value)) for name, value in self.weights.items()}

    def load_state(self, state: Mapping[str, np.ndarray], /) -> None:
        """Continue from a state that :meth:`state` returned.

        Raises:
            KeyError: an entry is missing.
            ValueError: an entry has another shape than the network's.

        """
        for name, average in self.weights.items():
            if state[name].shape != tuple(average.shape):
                raise ValueError(f"the average of {name} has shape {state[name].shape}")
            average[...] = like(state[name], average)


def _copied(value: Array) -> Array:
    return array_namespace(value).asarray(value, copy=True)


def _is_floating(value: Array) -> bool:
    kinds = ("real floating", "complex floating")
    floating: bool = array_namespace(value).isdtype(value.dtype, kinds)
    return floating
