"""How to train: where each method looks, and what it pays (section 4).

Adversarial training with the lq loss and operator-norm regularisation differ in where they look,
and by Theorem 1 not even there: ``AdversarialTraining`` and ``OperatorNorm`` share the objective
of Eqs. 112 and 113.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onr.arrays import like
from onr.errors import OnrError
from onr.iterations import walk
from onr.losses import CrossEntropy
from onr.norms import LpNorm
from onr.protocols import Array, Cost, Loss, Network, Norm, Outputs, Probe
from onr.registry import load
from onr.registry import norm as norm_named
from onr_paper.attacks import ProjectedGradientAscent

__all__ = [
    "AdversarialTraining",
    "OperatorNorm",
    "Standard",
    "adversarial_training",
    "dd_onr",
    "dd_snr",
]

CROSS_ENTROPY = CrossEntropy()
USUAL_EPS = {"1": 12.0, "2": 0.5, "inf": 8 / 255}
"""What the field uses for images with pixels in [0, 1]; other norms have no usual radius."""


class Standard:
    """Cross-entropy on the clean inputs."""

    settings: ClassVar[dict[str, str | float]] = {}

    def perturb(
        self, network: Network, x: Array, y: Array, /, *, rng: np.random.Generator
    ) -> Probe:
        """Look at the inputs alone."""
        return Probe()

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """``l(y, f(x))``."""
        value = CROSS_ENTROPY.value(outputs.clean, labels=y)
        return Cost(value, Outputs(clean=CROSS_ENTROPY.gradient(outputs.clean, labels=y)))


@dataclass(frozen=True)
class AdversarialTraining:
    """``l(y, f(x)) + lam l_adv(y, f(x*))`` with ``x*`` from an attack (Eqs. 14, 112).

    ``lam = inf`` pays for the perturbed inputs alone, as Madry et al. (2018) do.
    """

    attack: ProjectedGradientAscent
    lam: float

    @property
    def settings(self) -> dict[str, str | float]:
        """The attack's settings and the weight."""
        a = self.attack
        return {
            "p": a.p.name,
            "loss": a.loss.name,
            "eps": a.eps,
            "steps": a.steps,
            "alpha": a.alpha,
            "lam": self.lam,
        }

    def perturb(
        self, network: Network, x: Array, y: Array, /, *, rng: np.random.Generator
    ) -> Probe:
        """Look at the inputs and at what the attack makes of them."""
        perturbed = self.attack(network, x, y, rng=rng)
        return Probe(clean=self.lam < math.inf, perturbed=perturbed)

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients; a logit distance also has one in the clean logits."""
        loss = self.attack.loss
        paid = loss.value(outputs.perturbed, labels=y, clean=outputs.clean)
        gradient = loss.gradient(outputs.perturbed, labels=y, clean=outputs.clean)
        if outputs.clean is None:
            return Cost(paid, Outputs(perturbed=gradient))
        return _with_clean(
            outputs.clean, y, self.lam * paid, self.lam * gradient, both=loss.uses_clean
        )


@dataclass(frozen=True)
class OperatorNorm:
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
    power: int
    steps: int
    alpha: float
    form: str

    @property
    def settings(self) -> dict[str, str | float]:
        """All fields, norms by name."""
        return {
            "p": self.p.name,
            "q": self.q.name,
            "eps": self.eps,
            "lam": self.lam,
            "power": self.power,
            "steps": self.steps,
            "alpha": self.alpha,
            "form": self.form,
        }

    def perturb(
        self, network: Network, x: Array, y: Array, /, *, rng: np.random.Generator
    ) -> Probe:
        """Look at the inputs and along the direction of largest gain, from a Gaussian start."""
        start = like(rng.standard_normal(tuple(x.shape)), x)
        at = network.linearize(x)
        v = walk(at, start, p=self.p, q=self.q, alpha=self.alpha, steps=self.steps).v
        if self.form == "jacobian":
            return Probe(direction=v)
        return Probe(perturbed=x + self.eps * v)

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients in the clean logits and in ``J v`` or the perturbed logits."""
        jacobian = self.form == "jacobian"
        change = self.eps * outputs.tangent if jacobian else outputs.perturbed - outputs.clean
        size = self.q(change)
        paid = self.lam / self.power * size**self.power
        gradient = self.lam * (size ** (self.power - 1))[:, None] * self.q.gradient(change)
        if not jacobian:
            return _with_clean(outputs.clean, y, paid, gradient, both=True)
        value = CROSS_ENTROPY.value(outputs.clean, labels=y) + paid
        clean = CROSS_ENTROPY.gradient(outputs.clean, labels=y)
        return Cost(value, Outputs(clean=clean, tangent=self.eps * gradient))


def _with_clean(clean: Array, y: Array, paid: Array, gradient: Array, *, both: bool) -> Cost:
    """Cross-entropy on the clean logits plus a cost of the perturbed; ``both``: of their change."""
    on_clean = CROSS_ENTROPY.gradient(clean, labels=y)
    return Cost(
        CROSS_ENTROPY.value(clean, labels=y) + paid,
        Outputs(clean=on_clean - gradient if both else on_clean, perturbed=gradient),
    )


def adversarial_training(
    *,
    p: str = "2",
    loss: str = "cross-entropy",
    eps: float | None = None,
    steps: int = 10,
    alpha: float | None = None,
    lam: float = 1.0,
) -> AdversarialTraining:
    """``at``: adversarial training.

    Args:
        p: the norm of the ball.
        loss: ``cross-entropy``, ``margin`` or ``lq:Q``; what the attack ascends and training pays.
        eps: the radius, pixels in [0, 1]; by default the field's usual one for the norm.
        steps: attack iterations.
        alpha: step size; ``2 eps / steps`` if not given (the paper's), ``inf`` for the limit.
        lam: the weight of Eq. 14; ``inf`` for the perturbed inputs alone (not with ``lq``).

    """
    norm = norm_named(p)
    ascended: Loss = load("loss", loss)()
    if not lam >= 0 or (lam == math.inf and ascended.uses_clean):
        raise OnrError(f"lam = {lam:g}: expected a number >= 0, finite for loss {loss}")
    attack = ProjectedGradientAscent(
        p=norm, loss=ascended, eps=_radius(norm, eps), steps=steps, alpha=alpha, keep="last"
    )
    return AdversarialTraining(attack, lam)


def dd_snr(
    *,
    eps: float | None = None,
    lam: float = 0.1,
    steps: int = 10,
    form: str = "difference",
) -> OperatorNorm:
    """``dd-snr``: data-dependent spectral norm regularisation (Eq. 7, section 4.1).

    Args:
        eps: the distance of the difference, pixels in [0, 1]; the weight of Eq. 7 is
            ``lam eps^2``.
        lam: the weight of the sum-of-squares form.
        steps: power iterations (Eq. 6).
        form: ``difference``, the sum of squares; or ``jacobian``, the singular value itself.

    """
    return _operator_norm(LpNorm(2), LpNorm(2), eps, lam, 2, steps, math.inf, form)


def dd_onr(
    *,
    p: str = "2",
    q: str = "2",
    eps: float | None = None,
    lam: float = 0.1,
    steps: int = 10,
    alpha: float = math.inf,
    form: str = "difference",
) -> OperatorNorm:
    """``dd-onr``: data-dependent (p, q) operator norm regularisation (Eq. 13).

    Args:
        p: the norm of the domain.
        q: the norm of the co-domain.
        eps: as for ``dd-snr``; the weight of Eq. 13 is ``lam eps``.
        lam: the weight of Eq. 112.
        steps: norm iterations.
        alpha: their step size: ``inf`` for Eq. 12, finite for Eq. 11.
        form: as for ``dd-snr``.

    """
    return _operator_norm(norm_named(p), norm_named(q), eps, lam, 1, steps, alpha, form)


def _operator_norm(
    p: Norm,
    q: Norm,
    eps: float | None,
    lam: float,
    power: int,
    steps: int,
    alpha: float,
    form: str,
) -> OperatorNorm:
    if form not in ("difference", "jacobian"):
        raise OnrError(f"form = {form!r}: expected difference or jacobian")
    if not 0 <= lam < math.inf:
        raise OnrError(f"lam = {lam:g}: expected a finite number >= 0")
    if not alpha > 0:
        raise OnrError(f"alpha = {alpha:g}: expected a positive number, or inf")
    if steps < 1:
        raise OnrError(f"steps = {steps}: expected at least 1")
    return OperatorNorm(p, q, _radius(p, eps), lam, power, steps, alpha, form)


def _radius(norm: Norm, eps: float | None) -> float:
    if eps is None:
        if norm.name not in USUAL_EPS:
            raise OnrError(f"norm {norm.name} has no usual radius: give eps")
        return USUAL_EPS[norm.name]
    if not 0 < eps < math.inf:
        raise OnrError(f"eps = {eps:g}: expected a positive number")
    return eps
