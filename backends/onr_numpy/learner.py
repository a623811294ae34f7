"""Training of multilayer perceptrons in NumPy: the reference for the torch trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from onr.architectures import Affine, Flatten, Normalize, ReLU
from onr.data import Split, augment, pixels
from onr.errors import OnrError
from onr.jacobians.dense import Matrices
from onr.protocols import Array, Cost, Method, Outputs, PenalizingMethod
from onr.training.optimizers import Optimizer
from onr_numpy.layers import Dense
from onr_numpy.network import DenseLinearization, DenseNetwork

__all__ = ["NumpyLearner"]

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8


class NumpyLearner:
    """Stochastic gradient descent on a method's objective, with hand-written backpropagation.

    Raises:
        OnrError: the network has a layer other than affine, flatten, normalise and ReLU.
            Convolutions share weights and batch normalisations change their statistics, which
            this reference does not implement.

    Example:
        >>> from onr.architectures import Architecture, initial_parameters
        >>> from onr.registry import load
        >>> layers = Architecture((1, 2, 2), (Flatten(), Affine(3)))
        >>> network = DenseNetwork(layers, initial_parameters(layers, seed=0))
        >>> train = Split(np.ones((5, 1, 2, 2)), np.arange(5) % 3)
        >>> method, rng = load("method", "standard")(), np.random.default_rng(0)
        >>> learner = NumpyLearner(network, method, train, optimizer=Optimizer())
        >>> first, second = (learner.step(np.arange(5), lr=0.1, rng=rng) for _ in range(2))
        >>> bool(second < first)
        True

    """

    def __init__(
        self,
        network: DenseNetwork,
        method: Method,
        train: Split,
        *,
        optimizer: Optimizer,
        augmentation: str = "none",
    ) -> None:
        for layer in network.architecture.layers:
            if not isinstance(layer, Affine | Flatten | Normalize | ReLU):
                raise OnrError(
                    f"backend numpy trains affine layers only, got {type(layer).__name__}: "
                    "use --backend torch"
                )
        self._method = method
        self._images, self._labels = np.asarray(train.images), train.labels
        self._augmentation = augmentation
        self._optimizer = optimizer
        self._architecture = network.architecture
        self._parameters = {name: value.copy() for name, value in network.weights.items()}
        zeros = {name: np.zeros_like(value) for name, value in self._parameters.items()}
        self._first = zeros
        self._second = {name: value.copy() for name, value in zeros.items()}
        self._steps = 0
        self._memory: np.ndarray | None = None
        self._weight_memory: Mapping[str, Array] = {}
        self._rebuild()

    def _rebuild(self) -> None:
        self._network = DenseNetwork(self._architecture, self._parameters, fold=False)

    @property
    def network(self) -> DenseNetwork:
        """The network with the present parameters."""
        return self._network

    def step(
        self,
        examples: np.ndarray,
        /,
        *,
        lr: float,
        rng: np.random.Generator,
        method: Method | None = None,
    ) -> np.ndarray:
        """Make one update on these training examples; return the mean cost before the update."""
        # The training loop checks the cost, so a run that diverges needs no warning here.
        with np.errstate(over="ignore", invalid="ignore"):
            return self._step(examples, lr, rng, method or self._method)

    def _step(
        self, examples: np.ndarray, lr: float, rng: np.random.Generator, method: Method
    ) -> np.ndarray:
        dtype = next(iter(self._parameters.values())).dtype
        x = pixels(augment(self._images[examples], self._augmentation, rng), dtype.name)
        memory = None if self._memory is None else self._memory[examples]
        gradients = {name: np.zeros_like(value) for name, value in self._parameters.items()}
        cost = self._objective(method, x, self._labels[examples], memory, gradients, rng)
        value = np.mean(cost.value)
        if isinstance(method, PenalizingMethod):
            weights = [
                DenseWeight(name, value)
                for name, value in self._parameters.items()
                if value.ndim > 1
            ]
            penalty = method.penalty(weights, rng=rng, memory=self._weight_memory)
            for name, gradient in penalty.gradients.items():
                gradients[name] += gradient
            self._weight_memory = penalty.memory
            value = value + penalty.value
        self._update(gradients, lr)
        if cost.memory is not None:
            if self._memory is None:
                self._memory = np.zeros((len(self._labels), *cost.memory.shape[1:]), dtype)
            self._memory[examples] = cost.memory
        return np.asarray(value)

    def _objective(
        self,
        method: Method,
        x: np.ndarray,
        y: np.ndarray,
        memory: np.ndarray | None,
        gradients: dict[str, np.ndarray],
        rng: np.random.Generator,
    ) -> Cost:
        """Return the method's cost; add the gradient of its mean to ``gradients``."""
        probe = method.perturb(self._network, x, y, rng=rng, memory=memory)
        if probe.clean or probe.perturbed:
            rng.integers(2**63)  # the torch learner draws a seed for dropout: keep the draws equal
        here = self._network.linearize(x)
        there = [self._network.linearize(perturbed) for perturbed in probe.perturbed]
        tangents = None if probe.direction is None else _tangents(here, probe.direction)
        outputs = Outputs(
            clean=here.value if probe.clean else None,
            perturbed=tuple(point.value for point in there),
            tangent=None if tangents is None else tangents[-1],
            evaluated=here.value if probe.evaluated else None,
        )
        cost = method.objective(outputs, y)
        gradients_at = [
            (here, cost.gradients.clean),
            (here, cost.gradients.evaluated),
            *zip(there, cost.gradients.perturbed, strict=True),
        ]
        for point, upstream in gradients_at:
            if upstream is not None:
                self._backward(point, point.inputs, upstream / len(x), gradients, bias=True)
        if tangents is not None and cost.gradients.tangent is not None:
            self._backward(here, tangents, cost.gradients.tangent / len(x), gradients, bias=False)
        return cost

    def _backward(
        self,
        point: DenseLinearization,
        inputs: list[np.ndarray],
        u: np.ndarray,
        gradients: dict[str, np.ndarray],
        *,
        bias: bool,
    ) -> None:
        """Add the parameter gradient of ``<u, output>``; ``inputs`` holds each layer's input."""
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
        """Update the parameters by momentum, Adam or AdamW, as torch defines these."""
        self._steps += 1
        optimizer = self._optimizer
        for name, gradient in gradients.items():
            before, first = self._parameters[name], self._first[name]
            dtype = before.dtype
            if optimizer.name == "adamw":
                before = before * (1 - lr * optimizer.weight_decay)
            else:
                gradient = gradient + optimizer.weight_decay * before
            if optimizer.name == "sgd":
                first = optimizer.momentum * first + gradient
                change = gradient + optimizer.momentum * first if optimizer.nesterov else first
            else:
                b1, b2 = ADAM_BETAS
                first = b1 * first + (1 - b1) * gradient
                second = b2 * self._second[name] + (1 - b2) * gradient * gradient
                self._second[name] = second
                scale = np.sqrt(second) / np.sqrt(1 - b2**self._steps) + ADAM_EPS
                change = first / (1 - b1**self._steps) / scale
            self._first[name] = first.astype(dtype)
            self._second[name] = self._second[name].astype(dtype)
            self._parameters[name] = (before - lr * change).astype(dtype)
        self._rebuild()

    def weights(self) -> dict[str, np.ndarray]:
        """The parameters by name."""
        return dict(self._parameters)

    @contextmanager
    def holding(self, weights: Mapping[str, np.ndarray], /) -> Iterator[None]:
        """Give the network these weights inside; afterwards the training has its own back."""
        own, network = self._parameters, self._network
        try:
            self._parameters = dict(weights)
            self._rebuild()
            yield
        finally:
            self._parameters, self._network = own, network

    def state(self) -> dict[str, np.ndarray]:
        """A copy of the parameters, the optimiser's state and what the method remembers."""
        state = {f"model.{name}": value.copy() for name, value in self._parameters.items()}
        for slot, moments in (("first", self._first), ("second", self._second)):
            state |= {f"optimizer.{slot}.{name}": value.copy() for name, value in moments.items()}
        if self._memory is not None:
            state["memory"] = self._memory.copy()
        state |= {f"weight_memory.{name}": value for name, value in self._weight_memory.items()}
        return state | {"optimizer.steps": np.array([self._steps])}

    def load_state(self, state: Mapping[str, np.ndarray], /) -> None:
        """Continue from a state that :meth:`state` returned.

        Raises:
            ValueError: a parameter of the state has another shape than the network's.

        """
        for name, value in self._parameters.items():
            if state[f"model.{name}"].shape != value.shape:
                raise ValueError(f"{name} has shape {state[f'model.{name}'].shape}")
        self._parameters = {name: state[f"model.{name}"].copy() for name in self._parameters}
        self._first = {name: state[f"optimizer.first.{name}"].copy() for name in self._first}
        self._second = {name: state[f"optimizer.second.{name}"].copy() for name in self._second}
        self._steps = int(state["optimizer.steps"][0])
        self._memory = state["memory"].copy() if "memory" in state else None
        prefix = "weight_memory."
        self._weight_memory = {
            name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)
        }
        self._rebuild()


class DenseWeight:
    """The weight of an affine layer: the weight matrix is the layer's linear map."""

    def __init__(self, name: str, weight: np.ndarray) -> None:
        self.name = name
        self._weight = weight

    def matrix(self) -> DenseMap:
        """The weight as a linear map."""
        return DenseMap(self._weight[None])

    convolution = matrix


class DenseMap(Matrices):
    """A weight matrix as a linear map of a batch of one."""

    def weight_vjp(self, v: np.ndarray, u: np.ndarray, /) -> np.ndarray:
        """``u v^T``, the gradient of ``<u, W v>`` in the weight."""
        return np.outer(u, v)


def _tangents(point: DenseLinearization, v: np.ndarray) -> list[np.ndarray]:
    """The tangent before each layer, followed by ``J v``."""
    tangents = [v.reshape(len(v), -1)]
    for layer, memory in zip(point.network.layers, point.memory, strict=True):
        tangents.append(layer.jvp(tangents[-1], memory))
    return tangents
