"""The NumPy backend: builds dense networks and trains small ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onr.architectures import Architecture, parameters_of
from onr.data import Split
from onr.errors import OnrError
from onr.protocols import BackendNetwork, Method
from onr.training.optimizers import Optimizer
from onr.training.runs import Run
from onr_numpy.learner import NumpyLearner
from onr_numpy.network import DenseNetwork

__all__ = ["NumpyBackend"]


class NumpyBackend:
    """Builds and trains small sequential ReLU networks as explicit matrices, on the CPU.

    Example:
        >>> from onr.architectures import Affine, ReLU
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(4), ReLU(), Affine(2))))
        >>> network(np.zeros((5, 3), dtype="float32")).shape
        (5, 2)

    """

    rank = 0
    """The rank of this process; the NumPy backend trains in one process only."""

    def build(
        self,
        model: Architecture | Any,
        /,
        *,
        seed: int = 0,
        parameters: Mapping[str, np.ndarray] | None = None,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> DenseNetwork:
        """Build a dense network with the given parameters, or with parameters drawn from ``seed``.

        Raises:
            OnrError: the model is not an :class:`Architecture` (or a function that returns one),
                the device is not the CPU, the dtype is not float32 or float64, or the parameters
                do not fit the model.

        """
        if not isinstance(model, Architecture) and callable(model):
            model = model()
        if not isinstance(model, Architecture):
            raise OnrError(f"backend numpy takes sequential models, got {type(model).__name__}")
        if device != "cpu":
            raise OnrError(f"backend numpy runs on the CPU, got device {device!r}")
        if dtype not in ("float32", "float64"):
            raise OnrError(f"backend numpy computes in float32 or float64, got {dtype}")
        weights = parameters_of(model, parameters, seed=seed)
        return DenseNetwork(model, {k: np.asarray(v, dtype=dtype) for k, v in weights.items()})

    def adopt(self, model: Any, x: np.ndarray, /, *, check: bool = True) -> BackendNetwork:
        """Check that ``model`` is a network that accepts ``x``, and return it unchanged.

        ``check`` changes nothing: a network of layers is a function of each input.

        Raises:
            OnrError: the model is not a network, ``x`` holds neither floats nor exact numbers, or
                the shape of ``x`` does not fit the network.

        """
        if not isinstance(model, BackendNetwork):
            raise OnrError(
                f"the model is a {type(model).__name__}: expected a network, as "
                "onr.open_run(path).network of a run of backend numpy"
            )
        if x.dtype != object and not np.issubdtype(x.dtype, np.floating):
            raise OnrError(f"x holds {x.dtype}: expected floats; images of bytes are x / 255")
        if len(x) == 0 or tuple(x.shape[1:]) != tuple(model.input_shape):
            shape = ", ".join(map(str, model.input_shape))
            raise OnrError(
                f"x has shape {x.shape}: expected (batch, {shape}); one input is x[None]"
            )
        return model

    def read_parameters(self, path: Path, /) -> dict[str, np.ndarray]:
        """Read the parameters of a run from its folder."""
        return Run.open(path).model()[0]

    def learner(
        self,
        network: BackendNetwork,
        method: Method,
        train: Split,
        /,
        *,
        optimizer: Optimizer,
        augmentation: str = "none",
    ) -> NumpyLearner:
        """Return a learner that trains ``network`` by ``method`` on the images of ``train``.

        Raises:
            OnrError: :class:`NumpyLearner` cannot train a layer of the network.
            TypeError: the network is not a :class:`DenseNetwork`.

        """
        if not isinstance(network, DenseNetwork):
            raise TypeError(f"expected a DenseNetwork, got {type(network).__name__}")
        return NumpyLearner(network, method, train, optimizer=optimizer, augmentation=augmentation)
