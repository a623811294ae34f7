"""The NumPy backend: builds dense networks and trains small ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onr.architectures import Architecture, initial_parameters
from onr.data import Split
from onr.errors import OnrError
from onr.protocols import BackendNetwork, Method
from onr.training.optimizers import Optimizer
from onr.training.runs import Run
from onr_numpy.learner import NumpyLearner
from onr_numpy.network import DenseNetwork

__all__ = ["NumpyBackend"]


class NumpyBackend:
    """Small sequential ReLU networks as explicit matrices."""

    rank = 0

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
        """A dense network; its parameters are those given, or drawn from the seed.

        Raises:
            OnrError: the model is no sequence of layers, or the device is not the CPU.

        """
        if not isinstance(model, Architecture) and callable(model):
            model = model()
        if not isinstance(model, Architecture):
            raise OnrError(f"backend numpy takes sequential models, got {type(model).__name__}")
        if device != "cpu":
            raise OnrError(f"backend numpy runs on the CPU, got device {device!r}")
        if dtype not in ("float32", "float64"):
            raise OnrError(f"backend numpy computes in float32 or float64, got {dtype}")
        drawn = initial_parameters(model, seed) if parameters is None else parameters
        for name, value in initial_parameters(model, seed).items():
            if name not in drawn or np.shape(drawn[name]) != value.shape:
                raise OnrError(f"parameters do not fit the model: {name} of shape {value.shape}")
        return DenseNetwork(model, {k: np.asarray(v, dtype=dtype) for k, v in drawn.items()})

    def adopt(self, model: Any, x: np.ndarray, /) -> BackendNetwork:
        """A network as it is, for inputs like ``x``.

        Raises:
            OnrError: the model is no network, or ``x`` does not fit it.

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
        """The parameters of a run."""
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
        """Train that network."""
        if not isinstance(network, DenseNetwork):
            raise TypeError(f"expected a DenseNetwork, got {type(network).__name__}")
        return NumpyLearner(network, method, train, optimizer=optimizer, augmentation=augmentation)
