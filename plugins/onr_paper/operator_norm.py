"""``dd-snr``, ``dd-onr``, ``dd-onr-exact``: data-dependent norm regularisation (Eqs. 7, 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from onr.arrays import like
from onr.errors import OnrError
from onr.jacobians.iterations import walk
from onr.jacobians.operator_norms import operator_norm
from onr.norms import LpNorm
from onr.protocols import Array, Cost, Linearization, Network, Norm, NormLike, Outputs, Probe
from onr.text import norm as norm_named
from onr.typing import Kept, Rng
from onr_paper.methods import require_weight, training_radius, with_clean

__all__ = ["Exact", "Iteration", "OperatorNormRegularization", "dd_onr", "dd_onr_exact", "dd_snr"]


class Search(Protocol):
    """How to find the direction of largest gain."""

    @property
    def settings(self) -> dict[str, str | float]:
        """What a run's record says of it."""

    @property
    def remembers(self) -> bool:
        """Whether it wants the gradient of ``||J v||_q`` back when an example comes again."""

    def __call__(
        self,
        at: Linearization,
        x: Array,
        /,
        *,
        p: Norm,
        q: Norm,
        rng: np.random.Generator,
        memory: Array | None,
    ) -> Array:
        """A direction ``v`` with ``||v||_p = 1``, shaped as the input ``x``."""


@dataclass(frozen=True)
class Iteration:
    """Eq. 11, or Eq. 12 for ``alpha = inf``, from a Gaussian start."""

    steps: int
    alpha: float
    remembers = False

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise OnrError(f"alpha = {self.alpha:g}: expected a positive number, or inf")
        if self.steps < 1:
            raise OnrError(f"steps = {self.steps}: expected at least 1")

    @property
    def settings(self) -> dict[str, str | float]:
        """Steps and step size."""
        return {"steps": self.steps, "alpha": self.alpha}

    def __call__(
        self,
        at: Linearization,
        x: Array,
        /,
        *,
        p: Norm,
        q: Norm,
        rng: np.random.Generator,
        memory: Array | None,
    ) -> Array:
        """The last iterate."""
        start = like(rng.standard_normal(tuple(x.shape)), x)
        return walk(at, start, p=p, q=q, alpha=self.alpha, steps=self.steps).v


class Exact:
    """A maximiser from the whole Jacobian, which costs ``d`` vjps."""

    settings: ClassVar[dict[str, str | float]] = {"search": "exact"}
    remembers = False

    def __call__(
        self,
        at: Linearization,
        x: Array,
        /,
        *,
        p: Norm,
        q: Norm,
        rng: np.random.Generator,
        memory: Array | None,
    ) -> Array:
        """The maximiser.

        Raises:
            OnrError: there is no exact algorithm for these norms and that many classes.

        """
        found = operator_norm(at, p=p, q=q, rng=rng)
        if found.kind != "exact":
            raise OnrError(
                f"the ({p.name}, {q.name}) norm with {at.output_shape[0]} classes has no exact "
                "algorithm: choose p = 1, q = inf, p = q = 2, or q = 1 with at most 16 "
                "classes; or dd-onr, which estimates it"
            )
        return found.v


@dataclass(frozen=True)
class OperatorNormRegularization:
    """``l(y, f(x)) + (lam eps^r / r) ||J||_{p,q}^r`` with ``r = power`` (Eqs. 7, 13).

    The direction ``v`` that attains the norm is held constant: by Danskin's theorem the gradient is
    that of ``||J v||_q``. ``form = difference`` pays ``(lam / r) ||f(x + eps v) - f(x)||_q^r``,
    which is the same where the network is linear (Eq. 1), so that ``lam~ = lam eps^r`` of Eqs. 7
    and 13 in both forms.

    ``x + eps v`` is not clipped to the box of valid inputs: the norm is that of the Jacobian.
    """

    p: Norm
    q: Norm
    eps: float
    lam: float
    power: float
    form: str
    search: Search

    def __post_init__(self) -> None:
        if self.form not in ("difference", "jacobian"):
            raise OnrError(f"form = {self.form!r}: expected difference or jacobian")
        if not 1 <= self.power < math.inf:
            raise OnrError(f"power = {self.power:g}: expected a finite number >= 1")
        require_weight("lam", self.lam)

    @property
    def settings(self) -> dict[str, str | float]:
        """Every field, norms by name."""
        return {
            "p": self.p.name,
            "q": self.q.name,
            "eps": self.eps,
            "lam": self.lam,
            "power": self.power,
            "form": self.form,
            **self.search.settings,
        }

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Look at the inputs and along the direction of largest gain."""
        at = network.linearize(x)
        v = self.search(at, x, p=self.p, q=self.q, rng=rng, memory=memory)
        if self.form == "jacobian":
            return Probe(direction=v)
        return Probe(perturbed=(x + self.eps * v,))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients in the clean logits and in ``J v`` or the perturbed logits."""
        jacobian = self.form == "jacobian"
        change = self.eps * outputs.tangent if jacobian else outputs.perturbed[0] - outputs.clean
        size, u = self.q(change), self.q.gradient(change)
        paid = self.lam / self.power * size**self.power
        gradient = (self.lam * size ** (self.power - 1))[:, None] * u
        memory = u if self.search.remembers else None
        if jacobian:
            return with_clean(outputs.clean, y, paid, tangent=self.eps * gradient, memory=memory)
        return with_clean(
            outputs.clean,
            y,
            paid,
            clean_gradient=-gradient,
            perturbed=(gradient,),
            memory=memory,
        )


def dd_snr(
    *,
    eps: float | None = None,
    lam: float = 0.1,
    steps: int = 10,
    form: str = "difference",
) -> OperatorNormRegularization:
    """``dd-snr``: data-dependent spectral norm regularisation (Eq. 7, section 4.1).

    Args:
        eps: the distance of the difference, pixels in [0, 1]; the weight of Eq. 7 is
            ``lam eps^2``.
        lam: the weight of the sum-of-squares form.
        steps: power iterations (Eq. 6).
        form: ``difference``, the sum of squares; or ``jacobian``, the singular value itself.

    """
    norm = LpNorm(2)
    radius = training_radius(norm, eps)
    return OperatorNormRegularization(norm, norm, radius, lam, 2, form, Iteration(steps, math.inf))


def dd_onr(
    *,
    p: NormLike = 2,
    q: NormLike = 2,
    eps: float | None = None,
    lam: float = 0.1,
    power: float = 1.0,
    steps: int = 10,
    alpha: float = math.inf,
    form: str = "difference",
) -> OperatorNormRegularization:
    """``dd-onr``: data-dependent (p, q) operator norm regularisation (Eq. 13).

    Args:
        p: the norm of the domain.
        q: the norm of the co-domain.
        eps: as for ``dd-snr``; the weight of Eq. 13 is ``lam eps^power``.
        lam: the weight of Eq. 112.
        power: the norm is paid to this power, over it.
        steps: norm iterations.
        alpha: their step size: ``inf`` for Eq. 12, finite for Eq. 11.
        form: as for ``dd-snr``.

    """
    norm = norm_named(p)
    radius = training_radius(norm, eps)
    return OperatorNormRegularization(
        norm, norm_named(q), radius, lam, power, form, Iteration(steps, alpha)
    )


def dd_onr_exact(
    *,
    p: NormLike = 2,
    q: NormLike = 2,
    eps: float | None = None,
    lam: float = 0.1,
    power: float = 1.0,
    form: str = "difference",
) -> OperatorNormRegularization:
    """``dd-onr-exact``: as ``dd-onr``, at the maximiser itself instead of an estimate.

    The whole Jacobian costs as many vjps as there are classes: with ten, half of what ten
    iterations cost.

    Args:
        p: the norm of the domain.
        q: the norm of the co-domain: p = 1, q = inf, q = 1 (up to 16 classes) and p = q = 2 are
            exact, others are refused.
        eps: as for ``dd-onr``.
        lam: as there.
        power: as there.
        form: as there.

    """
    norm = norm_named(p)
    radius = training_radius(norm, eps)
    return OperatorNormRegularization(norm, norm_named(q), radius, lam, power, form, Exact())
