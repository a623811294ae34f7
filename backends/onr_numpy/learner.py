"""Training of multilayer perceptrons in NumPy: the reference for the torch trainer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.architectures import Affine, Flatten, Normalize, ReLU
from onr.errors import OnrError
from onr.protocols import Method, Outputs
from onr_numpy.layers import Dense
from onr_numpy.network import DenseLinearization, DenseNetwork

__all__ = ["NumpyLearner"]

MOMENTUM = 0.9
ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8


class NumpyLearner:
    """Stochastic gradient descent on a method's objective, backpropagated by hand.

    Raises:
        OnrError: a layer whose weights are shared or whose statistics move (convolutions, batch
            normalisation), or an unknown optimiser.

    """

    def __init__(self, network: DenseNetwork, method: Method, *, optimizer: str) -> None:
        for layer in network.architecture.layers:
            if not isinstance(layer, Affine | Flatten | Normalize | ReLU):
                raise OnrError(
                    f"backend numpy trains affine layers only, got {type(layer).__name__}: "
                    "use --backend torch"
                )
        if optimizer not in ("adam", "sgd"):
            raise OnrError(f"unknown optimizer {optimizer!r}: expected adam or sgd")
        self._method = method
        self._optimizer = optimizer
        self._architecture = network.architecture
        self._parameters = {name: value.copy() for name, value in network.parameters.items()}
        zeros = {name: np.zeros_like(value) for name, value in self._parameters.items()}
        self._first = zeros
        self._second = {name: value.copy() for name, value in zeros.items()}
        self._steps = 0
        self._rebuild()

    def _rebuild(self) -> None:
        self._network = DenseNetwork(self._architecture, self._parameters, fold=False)

    @property
    def network(self) -> DenseNetwork:
        """The network as it stands."""
        return self._network

    def step(
        self, x: np.ndarray, y: np.ndarray, /, *, lr: float, rng: np.random.Generator
    ) -> np.ndarray:
        """One update on a batch; returns the mean cost before it."""
        # A run that diverges is found by its cost.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._step(x, y, lr, rng)

    def _step(
        self, x: np.ndarray, y: np.ndarray, lr: float, rng: np.random.Generator
    ) -> np.ndarray:
        x = x.astype(next(iter(self._parameters.values())).dtype)
        probe = self._method.perturb(self._network, x, y, rng=rng)
        here = self._network.linearize(x) if probe.clean or probe.direction is not None else None
        there = None if probe.perturbed is None else self._network.linearize(probe.perturbed)
        tangents = None
        if probe.direction is not None and here is not None:
            tangents = _tangents(here, probe.direction)
        outputs = Outputs(
            clean=here.value if here is not None and probe.clean else None,
            perturbed=None if there is None else there.value,
            tangent=None if tangents is None else tangents[-1],
        )
        cost = self._method.objective(outputs, y)
        gradients = {name: np.zeros_like(value) for name, value in self._parameters.items()}
        for point, upstream in (
            (here, cost.gradients.clean),
            (there, cost.gradients.perturbed),
        ):
            if point is not None and upstream is not None:
                self._backward(point, point.inputs, upstream / len(x), gradients, bias=True)
        if here is not None and tangents is not None and cost.gradients.tangent is not None:
            self._backward(here, tangents, cost.gradients.tangent / len(x), gradients, bias=False)
        self._update(gradients, lr)
        return np.asarray(np.mean(cost.value))

    def _backward(
        self,
        point: DenseLinearization,
        inputs: list[np.ndarray],
        u: np.ndarray,
        gradients: dict[str, np.ndarray],
        *,
        bias: bool,
    ) -> None:
        """Add the gradient of ``<u, output>`` in the parameters, given each layer's input."""
        indices = [
            index
            for index, layer in enumerate(self._architecture.layers)
            if not isinstance(layer, Flatten)
        ]
        layers = self._network.layers
        for position in reversed(range(len(layers))):
            layer, name = layers[position], f"{indices[position]}.weight"
            if isinstance(layer, Dense) and name in gradients:
                gradients[name] += u.T @ inputs[position]
                if bias:
                    gradients[f"{indices[position]}.bias"] += u.sum(axis=0)
            u = layer.vjp(u, point.memory[position])

    def _update(self, gradients: dict[str, np.ndarray], lr: float) -> None:
        """Momentum or Adam, as torch defines them."""
        self._steps += 1
        for name, gradient in gradients.items():
            first = self._first[name]
            if self._optimizer == "sgd":
                first = MOMENTUM * first + gradient
                change = first
            else:
                b1, b2 = ADAM_BETAS
                first = b1 * first + (1 - b1) * gradient
                second = b2 * self._second[name] + (1 - b2) * gradient * gradient
                self._second[name] = second
                scale = np.sqrt(second) / np.sqrt(1 - b2**self._steps) + ADAM_EPS
                change = first / (1 - b1**self._steps) / scale
            dtype = self._parameters[name].dtype
            self._first[name] = first.astype(dtype)
            self._second[name] = self._second[name].astype(dtype)
            self._parameters[name] = (self._parameters[name] - lr * change).astype(dtype)
        self._rebuild()

    def state(self) -> dict[str, np.ndarray]:
        """Parameters, the optimiser's moments, and its step count; a copy."""
        state = {f"model.{name}": value.copy() for name, value in self._parameters.items()}
        for slot, moments in (("first", self._first), ("second", self._second)):
            state |= {f"optimizer.{slot}.{name}": value.copy() for name, value in moments.items()}
        return state | {"optimizer.steps": np.array([self._steps])}

    def load_state(self, state: Mapping[str, np.ndarray], /) -> None:
        """Continue from such a state."""
        for name, value in self._parameters.items():
            if state[f"model.{name}"].shape != value.shape:
                raise ValueError(f"{name} has shape {state[f'model.{name}'].shape}")
        self._parameters = {name: state[f"model.{name}"].copy() for name in self._parameters}
        self._first = {name: state[f"optimizer.first.{name}"].copy() for name in self._first}
        self._second = {name: state[f"optimizer.second.{name}"].copy() for name in self._second}
        self._steps = int(state["optimizer.steps"][0])
        self._rebuild()


def _tangents(point: DenseLinearization, v: np.ndarray) -> list[np.ndarray]:
    """The tangent before each layer, and last ``J v``."""
    tangents = [v.reshape(len(v), -1)]
    for layer, memory in zip(point.network.layers, point.memory, strict=True):
        tangents.append(layer.jvp(tangents[-1], memory))
    return tangents
