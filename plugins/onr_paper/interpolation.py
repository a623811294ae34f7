"""The method ``interpolate``: between ``at`` and ``dd-snr`` (section 5.3)."""

from __future__ import annotations

from dataclasses import dataclass

from onr.errors import OnrError
from onr.protocols import Array, Cost, Network, Outputs, Probe
from onr.typing import Kept, Rng
from onr_paper.adversarial_training import AdversarialTraining, adversarial_training
from onr_paper.operator_norm_regularization import OperatorNormRegularization, dd_snr

__all__ = ["Interpolation", "interpolate"]


@dataclass(frozen=True)
class Interpolation:
    """The cost ``(1 - t)`` times that of Eq. 14 plus ``t`` times that of Eq. 7 (Fig. 7).

    Example:
        >>> Interpolation(adversarial_training(), dd_snr(), 0.25).settings["t"]
        0.25

    """

    at: AdversarialTraining
    snr: OperatorNormRegularization
    t: float

    @property
    def settings(self) -> dict[str, str | float]:
        """The settings of both methods, which share the norm and the radius, and ``t``."""
        mine = {"t": self.t, "adversarial_lam": self.at.lam}
        return self.at.settings | self.snr.settings | mine

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the outputs that either method asks for."""
        one = self.at.perturb(network, x, y, rng=rng, memory=None)
        other = self.snr.perturb(network, x, y, rng=rng, memory=None)
        return Probe(perturbed=one.perturbed + other.perturbed, direction=other.direction)

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The convex combination of both costs and of their gradients."""
        one = self.at.objective(Outputs(outputs.clean, outputs.perturbed[:1]), y)
        other = self.snr.objective(
            Outputs(outputs.clean, outputs.perturbed[1:], outputs.tangent), y
        )
        gradients = Outputs(
            (1 - self.t) * one.gradients.clean + self.t * other.gradients.clean,
            tuple((1 - self.t) * g for g in one.gradients.perturbed)
            + tuple(self.t * g for g in other.gradients.perturbed),
            None if other.gradients.tangent is None else self.t * other.gradients.tangent,
        )
        return Cost((1 - self.t) * one.value + self.t * other.value, gradients)


def interpolate(
    *,
    t: float = 0.5,
    eps: float | None = None,
    steps: int = 10,
    alpha: float | None = None,
    adversarial_lam: float = 1.0,
    lam: float = 0.1,
    form: str = "difference",
) -> Interpolation:
    """Build the method ``interpolate``: ``at`` for ``t = 0``, ``dd-snr`` for ``t = 1``, both in l2.

    Args:
        t: the share of ``dd-snr``, in [0, 1].
        eps: the radius of both methods, pixels in [0, 1]; 0.5 if not given.
        steps: the number of iterations of the attack, and of the power method.
        alpha: the step size of the attack; ``2 eps / steps`` if not given.
        adversarial_lam: ``lam`` of ``at``, finite.
        lam: ``lam`` of ``dd-snr``.
        form: ``form`` of ``dd-snr``, ``difference`` or ``jacobian``.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> method = interpolate(t=0.25, eps=0.5)
        >>> method.t, method.settings["eps"]
        (0.25, 0.5)

    """
    if not 0 <= t <= 1:
        raise OnrError(f"t = {t:g}: expected a number in [0, 1]")
    if adversarial_lam == float("inf"):
        raise OnrError("adversarial_lam = inf: expected a finite number >= 0")
    at = adversarial_training(eps=eps, steps=steps, alpha=alpha, lam=adversarial_lam)
    return Interpolation(at, dd_snr(eps=eps, lam=lam, steps=steps, form=form), t)
