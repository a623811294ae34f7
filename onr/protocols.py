"""The protocols through which the parts of the project use one another.

This module computes nothing. A backend provides networks. Norms, losses, attacks and methods are
written once against these protocols and run on every backend. ``Array`` is a ``numpy.ndarray``
(also of exact rationals, ``dtype=object``), a ``torch.Tensor``, or another array that
``array_api_compat`` knows; it may be immutable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from onr.typing import Array, Kept, Rng, Ties

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Array",
    "Attack",
    "BackendNetwork",
    "Cost",
    "Linearization",
    "Loss",
    "Method",
    "Moment",
    "Network",
    "Norm",
    "NormLike",
    "Outputs",
    "PenalizingMethod",
    "Penalty",
    "Probe",
    "ScheduledMethod",
    "Ties",
    "UncheckedLinearization",
    "Weight",
    "WeightMap",
]


@runtime_checkable
class Linearization(Protocol):
    """The first-order expansion of a network at a batch: ``f(x + dx) ~ value + J dx`` (Eq. 1)."""

    @property
    def value(self) -> Array:
        """``f(x)``, shape ``(batch, d)``."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch axis."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one output, without the batch axis: ``(d,)``."""

    def jvp(self, v: Array, /) -> Array:
        """``J v``, linear in ``v``: ``(batch, *input_shape)`` to ``(batch, d)``."""

    def vjp(self, u: Array, /) -> Array:
        """``J^T u``, the adjoint of ``jvp``: ``(batch, d)`` to ``(batch, *input_shape)``."""


class UncheckedLinearization(Linearization, Protocol):
    """A linearisation whose ``vjp`` looks at its result, and which can also leave that out.

    To look at a result on a GPU waits for the GPU. Where a linearisation has this method, attacks
    and the warm start call it for arrays that are not on the CPU.
    """

    def vjp_unchecked(self, u: Array, /) -> Array:
        """``J^T u`` as ``vjp`` gives it, but whether it is finite or not."""


@runtime_checkable
class Network(Protocol):
    """A classifier with fixed running statistics: its logits and its linearisation at inputs."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch axis."""

    def __call__(self, x: Array, /) -> Array:
        """The logits ``f(x)``, shape ``(batch, d)``."""

    def linearize(self, x: Array, /, *, jvp: bool = True) -> Linearization:
        """The linearisation at ``x``, shape ``(batch, *input_shape)``.

        With ``jvp=False`` the caller asks for ``value`` and ``vjp`` alone, and the network need not
        prepare for ``J v``: its result's ``jvp`` may raise an :class:`onr.errors.OnrError`.
        """


@runtime_checkable
class BackendNetwork(Network, Protocol):
    """A network of a backend. Attacks and norm iterations need only :class:`Network`."""

    def asarray(self, x: np.ndarray, /) -> Array:
        """Convert to the network's float type on its device; integers (labels) stay integers.

        The result is an array of the package that is computed with around the network, which need
        not be that of the user's arrays: the network takes both, and answers each in kind.
        """

    def parameters(self) -> dict[str, np.ndarray]:
        """A copy of the parameters and running statistics, by name."""

    def frozen(self) -> BackendNetwork:
        """A network of the same function at the present parameters, faster for many passes.

        The result may be the network itself.
        """

    def features(self) -> BackendNetwork:
        """The network without its last affine layer, ``phi^(L-1)``; outputs ``(batch, features)``.

        Raises:
            OnrError: the last operation of the network is not an affine layer.

        """

    def activation_pattern(self, x: Array, /) -> Array:
        """``phi_x`` (section 3): which ReLUs are on, ``z > 0``, as ``(batch, units)`` booleans."""

    def cell_radius(self, x: Array, /, *, p: Norm) -> Array:
        """The largest eps with ``B_eps^p(x)`` in the ReLU cell of ``x``, exact, ``(batch,)``."""


@runtime_checkable
class Norm(Protocol):
    """A norm on examples. Every method takes a batch and reduces all axes but the first.

    Derive from :class:`onr.norms.BaseNorm`, which provides defaults, and test the result with
    :func:`onr.testing.check_norm`, which checks the laws of a norm.
    """

    @property
    def name(self) -> str:
        """The name that resolves to this norm, such as ``inf`` or ``1.5``."""

    @property
    def dual(self) -> Norm:
        """The dual norm: ``max <v, z>`` over the unit ball of this norm."""

    @property
    def euclidean(self) -> bool:
        """True if the norm is that of an inner product, as a weighted l2 norm is.

        Attacks then take the closest point of the ball in that inner product, and the operator norm
        to l2 is exact.
        """

    @property
    def monotone(self) -> bool:
        """True if an example whose entries shrink in magnitude never gets longer, as for lp norms.

        Clipping to the box then keeps a perturbation in the ball. Otherwise attacks shorten it.
        """

    def __call__(self, x: Array, /) -> Array:
        """The norm of each example, shape ``(batch,)``."""

    def gradient(self, x: Array, /) -> Array:
        """A subgradient of the norm at ``x`` (Eqs. 28, 29); zero where ``x`` is zero."""

    def duality_map(self, z: Array, /, *, ties: Ties = "average") -> Array:
        """A maximiser of ``<v, z>`` over the unit ball (Lemma 1); zero where ``z`` is zero."""

    def project_ball(self, y: Array, /, radius: Array | float) -> Array:
        """The closest point (in l2) of the ball of this radius about zero."""

    def project_face(self, y: Array, direction: Array, /, radius: Array | float) -> Array:
        """The closest point of the face of the ball that ``direction`` exposes.

        This is ``lim project_ball(y + alpha direction, radius)`` for ``alpha -> inf``.
        """

    def project_sphere(self, y: Array, /, radius: Array | float) -> Array:
        """A closest point of the sphere of this radius about zero."""

    def sample_ball(self, rng: np.random.Generator, shape: tuple[int, ...], /) -> np.ndarray:
        """Points uniform by volume in the unit ball, ``shape = (batch, ...)``, float64."""


NormLike: TypeAlias = Norm | float | str
"""A norm, a number (the exponent of an lp norm), or the name of a registered norm."""


@runtime_checkable
class Loss(Protocol):
    """A function of the logits that an attack ascends and that training may minimise.

    Derive from :class:`onr.losses.BaseLoss`, and test the result with
    :func:`onr.testing.check_loss`.
    """

    @property
    def name(self) -> str:
        """The name that resolves to this loss, such as ``cross-entropy`` or ``lq:1``."""

    @property
    def uses_clean(self) -> bool:
        """True if the loss compares with the logits of the clean input."""

    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The loss of each example, shape ``(batch,)``."""

    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The gradient of the loss with respect to the logits, shape ``(batch, d)``."""

    def direction(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """A positive multiple of the gradient that does not underflow where the gradient does."""


@runtime_checkable
class Attack(Protocol):
    """A search of the p-ball of radius ``eps`` about each input for a misclassified input."""

    def __call__(self, network: Network, x: Array, y: Array, /, *, rng: Rng) -> Array:
        """The perturbed inputs, shaped as ``x``, inside the ball and inside ``bounds``."""


@dataclass(frozen=True)
class Probe:
    """The inputs and directions that a method evaluates in one training step.

    Example:
        >>> probe = Probe(clean=False, perturbed=(np.ones((2, 3)),))
        >>> len(probe.perturbed), probe.direction is None
        (1, True)

    """

    clean: bool = True
    """True if the objective needs the logits of the clean inputs."""
    perturbed: tuple[Array, ...] = ()
    """Inputs ``x*`` whose logits the objective needs, each shaped as ``x``."""
    direction: Array | None = None
    """A direction ``v``, shaped as ``x``, whose image ``J v`` the objective needs."""
    evaluated: bool = False
    """True if the objective needs the logits of the clean inputs in evaluation mode, the mode in
    which ``J v`` is taken. Other logits are those of training mode, which batch normalisation
    makes different."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of the network for a :class:`Probe`, or the gradients of a cost in these outputs.

    Every array is a constant of shape ``(batch, d)``. An output is ``None`` if the probe does not
    ask for it; a gradient is ``None`` if it is zero.

    Example:
        >>> Outputs(clean=np.zeros((2, 10))).tangent is None
        True

    """

    clean: Array = None
    """The logits at the clean inputs, of a pass of training."""
    perturbed: tuple[Array, ...] = ()
    """The logits at each of the perturbed inputs, of a pass of training."""
    tangent: Array = None
    """``J v`` at the clean inputs."""
    evaluated: Array = None
    """The logits at the clean inputs in evaluation mode, where ``J v`` is taken."""


@dataclass(frozen=True)
class Cost:
    """The cost of each example, shape ``(batch,)``, and its gradients in the outputs.

    Example:
        >>> logits = np.array([[3.0, 4.0]])
        >>> cost = Cost((logits**2).sum(axis=1) / 2, gradients=Outputs(clean=logits))
        >>> cost.value
        array([12.5])

    """

    value: Array
    gradients: Outputs
    memory: Array | None = None
    """What ``perturb`` receives at the next visit of these examples, shape ``(batch, ...)``."""


@runtime_checkable
class Method(Protocol):
    """A training method: what to evaluate in a step, and the cost of the outputs.

    A method depends neither on the backend nor on the training loop.
    """

    @property
    def settings(self) -> dict[str, str | float]:
        """Every setting that the method depends on, defaults resolved, for the record of a run.

        ``p`` and ``q`` are names of norms, ``loss`` and ``attack`` are the names of a loss and an
        attack, and ``eps`` is a radius in norm ``p``. Evaluation takes its defaults from these
        settings. A method with parts of other libraries has their ``versions`` by name, too.
        """

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Choose the inputs and directions whose outputs the objective needs.

        ``memory`` is the :attr:`Cost.memory` of these examples from their last visit, with a row of
        zeros for an example without a visit. It is ``None`` before any step has kept something.
        """

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost of each example and its gradients in the outputs of the probe."""


@dataclass(frozen=True)
class Moment:
    """How far a training has come when a step begins.

    Example:
        >>> Moment(step=30, progress=0.25).step
        30

    """

    step: int
    """The number of steps taken before, over all epochs."""
    progress: float
    """The share of all steps of the training that these are, in [0, 1)."""


@runtime_checkable
class ScheduledMethod(Method, Protocol):
    """A method that changes in the course of training, such as one with a rising weight.

    The training loop asks for the method of each step. A learner without a loop, which knows no
    number of steps, takes the scheduled method itself.
    """

    def at_moment(self, moment: Moment, /) -> Method:
        """The method of the step that begins at this moment."""


class Weight(Protocol):
    """The weight of an affine or convolution layer, which can act as two linear maps."""

    @property
    def name(self) -> str:
        """The name of the parameter."""

    def matrix(self) -> WeightMap:
        """The weight reshaped to a matrix with one row for each output channel."""

    def convolution(self) -> WeightMap:
        """The linear map that the layer applies, for inputs of the layer's size in the network."""


class WeightMap(Linearization, Protocol):
    """The linear map ``W`` of a layer on a batch of one; ``W`` itself is linear in the weight."""

    def weight_vjp(self, v: Array, u: Array, /) -> Array:
        """The gradient of ``<u, W v>`` with respect to the weight, shaped as the weight."""


@dataclass(frozen=True)
class Penalty:
    """A cost of the weights, which training adds to the cost of the examples.

    Example:
        >>> weight = np.array([[3.0, 4.0]])
        >>> penalty = Penalty(np.sum(weight**2) / 2, gradients={"0.weight": weight}, memory={})
        >>> float(penalty.value)
        12.5

    """

    value: Array
    """The cost, a scalar array."""
    gradients: Mapping[str, Array]
    """The gradient with respect to each weight, by the name of the parameter."""
    memory: Mapping[str, Array]
    """What ``penalty`` receives in the next step, by name."""


@runtime_checkable
class PenalizingMethod(Method, Protocol):
    """A method that also penalises the weights."""

    def penalty(
        self,
        weights: Sequence[Weight],
        /,
        *,
        rng: np.random.Generator,
        memory: Mapping[str, Array],
    ) -> Penalty:
        """The cost of the weights; ``memory`` is that of the last step, or empty."""
