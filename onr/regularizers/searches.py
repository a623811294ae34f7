"""Searches for the direction of largest gain ``||J v||_q``, which a regulariser then penalises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from onr.arrays import array_namespace, column, like, max_abs
from onr.errors import OnrError
from onr.jacobians.iterations import walk
from onr.jacobians.operator_norms import operator_norm
from onr.protocols import Array, Linearization, Norm
from onr.typing import Kept, Rng

__all__ = ["Direction", "Exact", "Iteration", "Search", "WarmStart"]


@dataclass(frozen=True)
class Direction:
    """What a search found at each input.

    Example:
        >>> Direction(np.array([[0.0, 1.0]]), np.array([[1.0]]), np.array([2.0]), "exact").kind
        'exact'

    """

    v: Array
    """The direction, shaped as the input: ``||v||_p = 1``, or zero where ``J^T u`` is zero."""
    u: Array
    """The direction in the space of the logits that belongs to ``v``, shape ``(batch, d)``."""
    slope: Array
    """``||J^T u||_{p*}``, shape ``(batch,)``: the largest ``<u, J v>`` over ``||v||_p = 1``."""
    kind: str
    """``exact`` if ``slope / ||u||_{q*}`` is ``||J||_{p,q}``, ``lower`` if it is a lower bound."""


class Search(Protocol):
    """A search for the direction ``v`` of largest gain ``||J v||_q``."""

    @property
    def settings(self) -> dict[str, str | float]:
        """The settings of the search, for a run's record."""

    @property
    def remembers(self) -> bool:
        """Whether ``memory`` is needed: the gradient of ``||.||_q`` at the last visit."""

    def __call__(
        self, J: Linearization, x: Array, /, *, p: Norm, q: Norm, rng: Rng, memory: Kept
    ) -> Direction:
        """Find a direction.

        Args:
            J: the linearisation at ``x``.
            x: the inputs.
            p: the norm of the domain.
            q: the norm of the co-domain.
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
        if self.steps < 1:
            raise OnrError(f"steps = {self.steps}: expected at least 1")

    @property
    def settings(self) -> dict[str, str | float]:
        """The number of steps and the step size."""
        return {"steps": self.steps, "alpha": self.alpha}

    def __call__(
        self, J: Linearization, x: Array, /, *, p: Norm, q: Norm, rng: Rng, memory: Kept
    ) -> Direction:
        """The last iterate of the iteration."""
        start = like(rng.standard_normal(tuple(x.shape)), x)
        last = walk(J, start, p=p, q=q, alpha=self.alpha, steps=self.steps)
        return Direction(last.v, last.u, p.dual(last.gradient), "lower")


class Exact:
    """The exact maximiser, from the whole Jacobian, which costs ``d`` vjps.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> from onr.norms import LpNorm
        >>> J, x = Matrices(np.array([[[1.0, 0.0], [0.0, 2.0]]])), np.zeros((1, 2))
        >>> rng = np.random.default_rng(0)
        >>> Exact()(J, x, p=LpNorm(1), q=LpNorm(2), rng=rng, memory=None).v
        array([[0., 1.]])

    """

    settings: ClassVar[dict[str, str | float]] = {"search": "exact"}
    remembers = False

    def __call__(
        self, J: Linearization, x: Array, /, *, p: Norm, q: Norm, rng: Rng, memory: Kept
    ) -> Direction:
        """The direction that attains the norm.

        Raises:
            OnrError: no exact algorithm is known for these norms and this number of classes.

        """
        found = operator_norm(J, p=p, q=q, rng=rng)
        if found.kind != "exact":
            raise OnrError(
                f"the ({p.name}, {q.name}) norm with {J.output_shape[0]} classes has no exact "
                "algorithm: choose p = 1, q = inf, p = q = 2, or q = 1 with at most 16 "
                "classes; or dd-onr (search = power), which estimates it"
            )
        return Direction(found.v, found.u, found.value, "exact")


class WarmStart:
    """One half round of Eq. 12, started from the vector ``u`` of the example's last visit.

    Eq. 12 alternates ``v = duality map of J^T u`` and ``u = gradient of ||.||_q at J v``. Between
    two visits of an example the network changes little. One round at each visit, started from the
    ``u`` of the last visit, is therefore enough to follow the network. The search costs one vjp.
    The jvp costs nothing extra: the objective computes ``f(x + eps v) - f(x)`` anyway, which gives
    the next ``u``.

    An example without a last visit, or whose logits did not change then, starts from a Gaussian
    ``u``. As ``u`` has the shape of the logits, a new crop or mirror image of the example can use
    the ``u`` of another.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> from onr.norms import LpNorm
        >>> J, x = Matrices(np.array([[[1.0, 0.0], [0.0, 2.0]]])), np.zeros((1, 2))
        >>> p, rng, u = LpNorm(1), np.random.default_rng(0), np.ones((1, 2))
        >>> WarmStart()(J, x, p=p, q=p, rng=rng, memory=u).v
        array([[0., 1.]])

    """

    settings: ClassVar[dict[str, str | float]] = {"search": "warm"}
    remembers = True

    def __call__(
        self, J: Linearization, x: Array, /, *, p: Norm, q: Norm, rng: Rng, memory: Kept
    ) -> Direction:
        """The direction ``v``, the duality map of ``J^T u``.

        Raises:
            OnrError: what is remembered has another number of outputs.

        """
        if memory is not None and tuple(memory.shape[1:]) != J.output_shape:
            raise OnrError(
                f"{memory.shape[1]} outputs are remembered of each example, and the model has "
                f"{J.output_shape[0]}: each model needs a memory of its own"
            )
        xp = array_namespace(x)
        u = like(rng.standard_normal((x.shape[0], *J.output_shape)), x)
        if memory is not None:
            u = xp.where(column(max_abs(memory) > 0, memory), memory, u)
        pulled = J.vjp(u)
        return Direction(p.duality_map(pulled), u, p.dual(pulled), "lower")
