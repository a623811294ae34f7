"""Searches for the direction of largest gain ``||J v||_q``, which a regulariser then penalises.

The one that training continues from visit to visit has a file of its own,
:mod:`onr.regularizers.warm_start`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from onr.arrays import like
from onr.errors import OnrError
from onr.jacobians.iterations import walk
from onr.jacobians.operator_norms import operator_norm
from onr.numerals import require_whole
from onr.protocols import Array, Network, Norm
from onr.typing import Kept, Rng

__all__ = ["Direction", "Exact", "Iteration", "Search"]


@dataclass(frozen=True)
class Direction:
    """What a search found at each input.

    Example:
        >>> v, u, x = np.array([[0.0, 1.0]]), np.array([[1.0]]), np.zeros((1, 2))
        >>> Direction(v, u, np.array([2.0]), "exact", start=x).moved(0.5)
        array([[0. , 0.5]])

    """

    v: Array
    """The direction, shaped as the input: ``||v||_p = 1``, or zero where ``J^T u`` is zero."""
    u: Array
    """The direction in the space of the logits that belongs to ``v``, shape ``(batch, d)``."""
    slope: Array
    """``||J^T u||_{p*}``, shape ``(batch,)``: the largest ``<u, J v>`` over ``||v||_p = 1``."""
    kind: str
    """``exact`` if ``slope / ||u||_{q*}`` is ``||J||_{p,q}``, ``lower`` if it is a lower bound."""
    start: Array
    """The inputs at which ``J`` was taken, shaped as ``x``: ``x`` itself, or with noise."""
    gradient: Array | None = None
    """``J^T u``, shaped as ``x``, if ``start`` is not ``x``."""

    def moved(self, eps: float, /) -> Array:
        """``start + eps v``, the inputs whose change of the logits is paid."""
        return self.start + eps * self.v


class Search(Protocol):
    """A search for the direction ``v`` of largest gain ``||J v||_q``."""

    @property
    def settings(self) -> dict[str, str | float]:
        """The settings of the search, for a run's record."""

    @property
    def remembers(self) -> bool:
        """Whether ``memory`` is needed: the gradient of ``||.||_q`` at the last visit."""

    def __call__(
        self,
        network: Network,
        x: Array,
        /,
        *,
        p: Norm,
        q: Norm,
        eps: float,
        labels: Array | None,
        rng: Rng,
        memory: Kept,
    ) -> Direction:
        """Find a direction.

        Args:
            network: the network, in evaluation mode.
            x: the inputs.
            p: the norm of the domain.
            q: the norm of the co-domain.
            eps: the length of the step that will be taken along ``v``.
            labels: the labels of the inputs, ``(batch,)``, if they are known.
            rng: draws random starts.
            memory: what the objective kept at the last visit of these examples, ``(batch, d)``,
                with a row of zeros for a new example; ``None`` if nothing was kept.

        """


@dataclass(frozen=True)
class Iteration:
    """The iteration of Eq. 11, or of Eq. 12 for ``alpha = inf``, from a Gaussian start.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> Iteration(steps=10, alpha=math.inf).settings
        {'steps': 10, 'alpha': inf}

    """

    steps: int
    alpha: float = math.inf
    remembers = False

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise OnrError(f"alpha = {self.alpha:g}: expected a positive number, or inf")
        require_whole(steps=self.steps)

    @property
    def settings(self) -> dict[str, str | float]:
        """The number of steps and the step size."""
        return {"steps": self.steps, "alpha": self.alpha}

    def __call__(
        self,
        network: Network,
        x: Array,
        /,
        *,
        p: Norm,
        q: Norm,
        eps: float,
        labels: Array | None,
        rng: Rng,
        memory: Kept,
    ) -> Direction:
        """The last iterate of the iteration."""
        start = like(rng.standard_normal(tuple(x.shape)), x)
        last = walk(network.linearize(x), start, p=p, q=q, alpha=self.alpha, steps=self.steps)
        return Direction(last.v, last.u, p.dual(last.gradient), "lower", start=x)


class Exact:
    """The exact maximiser, from the whole Jacobian, which costs ``d`` vjps.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> weights = {"0.weight": np.array([[1.0, 0.0], [0.0, 2.0]]), "0.bias": np.zeros(2)}
        >>> network = NumpyBackend().build(Architecture((2,), (Affine(2),)), parameters=weights)
        >>> given = {"p": LpNorm(1), "q": LpNorm(2), "eps": 1.0, "labels": None, "memory": None}
        >>> x = np.zeros((1, 2), dtype=np.float32)
        >>> Exact()(network, x, rng=np.random.default_rng(0), **given).v
        array([[0., 1.]], dtype=float32)

    """

    settings: ClassVar[dict[str, str | float]] = {"search": "exact"}
    remembers = False

    def __call__(
        self,
        network: Network,
        x: Array,
        /,
        *,
        p: Norm,
        q: Norm,
        eps: float,
        labels: Array | None,
        rng: Rng,
        memory: Kept,
    ) -> Direction:
        """The direction that attains the norm.

        Raises:
            OnrError: no exact algorithm is known for these norms and this number of classes.

        """
        J = network.linearize(x)
        found = operator_norm(J, p=p, q=q, rng=rng)
        if found.kind != "exact":
            raise OnrError(
                f"the ({p.name}, {q.name}) norm with {J.output_shape[0]} classes has no exact "
                "algorithm: choose p = 1, q = inf, p = q = 2, or q = 1 with at most 16 "
                "classes; or dd-onr (search = power), which estimates it"
            )
        return Direction(found.v, found.u, found.value, "exact", start=x)
