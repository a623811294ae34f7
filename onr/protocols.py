"""What the parts of the project are to one another.

Nothing here computes. A backend provides networks; norms, losses, attacks and methods are written
once against these protocols and run on every backend. ``Array`` is a ``numpy.ndarray`` (also of
exact rationals, ``dtype=object``) or a ``torch.Tensor``.
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
    "Network",
    "Norm",
    "NormLike",
    "Outputs",
    "PenalizingMethod",
    "Penalty",
    "Probe",
    "Ties",
    "Weight",
    "WeightMap",
]


@runtime_checkable
class Linearization(Protocol):
    """A network to first order at one batch of inputs: ``f(x + dx) ~ value + J dx`` (Eq. 1)."""

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
        """``J v``: ``(batch, *input_shape)`` to ``(batch, d)``, linear in ``v``."""

    def vjp(self, u: Array, /) -> Array:
        """``J^T u``: ``(batch, d)`` to ``(batch, *input_shape)``, the adjoint of ``jvp``."""


@runtime_checkable
class Network(Protocol):
    """A classifier with frozen statistics: its value and its linearisation at given inputs."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, without the batch axis."""

    def __call__(self, x: Array, /) -> Array:
        """Logits ``f(x)``, shape ``(batch, d)``."""

    def linearize(self, x: Array, /) -> Linearization:
        """The linearisation at ``x``, shape ``(batch, *input_shape)``."""


@runtime_checkable
class BackendNetwork(Network, Protocol):
    """What the networks of a backend offer besides; attacks and norm iterations do without."""

    def asarray(self, x: np.ndarray, /) -> Array:
        """Inputs in the network's float type on its device; integers (labels) as integers."""

    def parameters(self) -> dict[str, np.ndarray]:
        """Parameters and statistics by name; a copy."""

    def frozen(self) -> BackendNetwork:
        """The same function for many passes at the present parameters: faster, or itself."""

    def features(self) -> BackendNetwork:
        """The network without its last affine layer, ``phi^(L-1)``; outputs ``(batch, features)``.

        Raises:
            OnrError: its last operation is no affine layer.

        """

    def activation_pattern(self, x: Array, /) -> Array:
        """``phi_x`` (section 3): which ReLUs are on, ``z > 0``; shape ``(batch, units)``, bool."""

    def cell_radius(self, x: Array, /, *, p: Norm) -> Array:
        """The largest eps with ``B_eps^p(x)`` in the ReLU cell of ``x``, exact; ``(batch,)``."""


@runtime_checkable
class Norm(Protocol):
    """A norm on one example; every method works on a batch and reduces all axes but the first.

    Derive from :class:`onr.norms.BaseNorm`, which gives the parts that follow from others;
    :func:`onr.testing.check_norm` holds the laws.
    """

    @property
    def name(self) -> str:
        """The name that resolves to this norm, as ``inf`` or ``1.5``."""

    @property
    def dual(self) -> Norm:
        """The dual norm, ``max <v, z>`` over the unit ball of this one."""

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
"""A norm; a number, for an lp norm; or the name of a registered norm."""


@runtime_checkable
class Loss(Protocol):
    """A function of the logits that an attack ascends and that training may pay for.

    Derive from :class:`onr.losses.BaseLoss`; :func:`onr.testing.check_loss` holds the laws.
    """

    @property
    def name(self) -> str:
        """The name that resolves to this loss, as ``cross-entropy`` or ``lq:1``."""

    @property
    def uses_clean(self) -> bool:
        """Whether the loss compares with the logits of the clean input."""

    def value(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """The loss of each example, shape ``(batch,)``."""

    def gradient(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """Its gradient in the logits, shape ``(batch, d)``."""

    def direction(self, logits: Array, /, *, labels: Array, clean: Array | None = None) -> Array:
        """A positive multiple of the gradient that does not underflow where the gradient does."""


@runtime_checkable
class Attack(Protocol):
    """Searches the p-ball of radius ``eps`` about each input for one the network gets wrong."""

    def __call__(self, network: Network, x: Array, y: Array, /, *, rng: Rng) -> Array:
        """The perturbed inputs, shaped as ``x``, inside the ball and inside ``bounds``."""


@dataclass(frozen=True)
class Probe:
    """Where a method looks in one training step."""

    clean: bool = True
    """Whether the objective needs the logits of the clean inputs."""
    perturbed: tuple[Array, ...] = ()
    """Inputs ``x*`` whose logits the objective needs, each shaped as ``x``."""
    direction: Array | None = None
    """A direction ``v``, shaped as ``x``, whose image ``J v`` the objective needs."""


@dataclass(frozen=True)
class Outputs:
    """What the network answers to a probe: ``(batch, d)`` constants, ``None`` if not asked for.

    Of gradients in these, ``None`` stands for zero.
    """

    clean: Array = None
    perturbed: tuple[Array, ...] = ()
    tangent: Array = None


@dataclass(frozen=True)
class Cost:
    """What a method pays: a value for each example and its gradients in the outputs."""

    value: Array
    gradients: Outputs
    memory: Array | None = None
    """What ``perturb`` is given when these examples come next, ``(batch, ...)``."""


@runtime_checkable
class Method(Protocol):
    """How to train: where to look, and what to pay. Neither knows the backend or the loop."""

    @property
    def settings(self) -> dict[str, str | float]:
        """Every setting that its behaviour depends on, defaults resolved, for a run's record.

        ``p``, ``q`` and ``loss`` are names of norms and of a loss, ``eps`` is a radius in norm
        ``p``: evaluation takes its defaults from them.
        """

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Choose the inputs and directions whose outputs the objective pays for.

        ``memory`` is what ``objective`` kept for these examples when they last came, a row of
        zeros for one that never did; ``None`` before anything was kept.
        """

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """Each example's cost and its gradient in the outputs that were probed."""


class Weight(Protocol):
    """The weight of an affine or convolution layer, as the two linear maps that it stands for."""

    @property
    def name(self) -> str:
        """The parameter's name."""

    def matrix(self) -> WeightMap:
        """The weight as a matrix with a row for each output channel: the reshaped kernel."""

    def convolution(self) -> WeightMap:
        """The layer's linear map itself, on inputs of the size that it has in the network."""


class WeightMap(Linearization, Protocol):
    """A linear map of a batch of one, which its layer's weight determines linearly."""

    def weight_vjp(self, v: Array, u: Array, /) -> Array:
        """The gradient of ``<u, W v>`` in the weight, shaped as the weight."""


@dataclass(frozen=True)
class Penalty:
    """What a method pays for the weights themselves."""

    value: Array
    """A scalar array."""
    gradients: Mapping[str, Array]
    """By parameter name."""
    memory: Mapping[str, Array]
    """What the next step's penalty is given, by name."""


@runtime_checkable
class PenalizingMethod(Method, Protocol):
    """A method that pays for the weights too."""

    def penalty(
        self,
        weights: Sequence[Weight],
        /,
        *,
        rng: np.random.Generator,
        memory: Mapping[str, Array],
    ) -> Penalty:
        """A cost of the weights; ``memory`` is the last step's, empty before the first."""
