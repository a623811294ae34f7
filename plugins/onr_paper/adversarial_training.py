"""The method ``at``: adversarial training (Eqs. 14, 112)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onr.attacks.fast_gradient import FastGradient
from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.errors import OnrError
from onr.protocols import Array, Attack, Cost, Loss, Network, NormLike, Outputs, Probe
from onr.text import loss_of
from onr.text import norm as norm_named
from onr.typing import Kept, Rng
from onr_paper.methods import training_radius, with_clean

__all__ = ["AdversarialTraining", "adversarial_training"]


@dataclass(frozen=True)
class AdversarialTraining:
    """The cost ``l(y, f(x)) + lam l_adv(y, f(x*))``, where an attack finds ``x*``.

    With ``lam = inf`` the cost is ``l_adv(y, f(x*))`` alone, as in Madry et al. (2018).

    Example:
        >>> method = adversarial_training(p=2, eps=0.5)
        >>> AdversarialTraining(method.attack, method.loss, math.inf, method.settings).lam
        inf

    """

    attack: Attack
    loss: Loss
    lam: float
    settings: dict[str, str | float]

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the logits at the perturbed inputs, and at the clean ones unless lam is inf."""
        perturbed = self.attack(network, x, y, rng=rng)
        return Probe(clean=self.lam < math.inf, perturbed=(perturbed,))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients; a logit distance also depends on the clean logits."""
        (perturbed,) = outputs.perturbed
        paid = self.loss.value(perturbed, labels=y, clean=outputs.clean)
        gradient = self.loss.gradient(perturbed, labels=y, clean=outputs.clean)
        if outputs.clean is None:
            return Cost(paid, Outputs(perturbed=(gradient,)))
        gradient = self.lam * gradient
        return with_clean(
            outputs.clean,
            y,
            self.lam * paid,
            clean_gradient=-gradient if self.loss.uses_clean else 0.0,
            perturbed=(gradient,),
        )


def adversarial_training(
    *,
    attack: str = "pga",
    p: NormLike = 2,
    loss: str = "onr_paper:cross-entropy",
    eps: float | None = None,
    steps: int | None = None,
    alpha: float | None = None,
    lam: float = 1.0,
) -> AdversarialTraining:
    """Build the method ``at``: adversarial training.

    Args:
        attack: ``pga``, projected gradient ascent from a random start; or ``fgm``, one step of
            length eps from the input itself.
        p: the norm of the ball.
        loss: the loss that the attack ascends and that is ``l_adv`` of the cost:
            ``cross-entropy``, ``margin`` or ``lq:Q``.
        eps: the radius, pixels in [0, 1]. If not given, 12, 0.5 or 8/255 for p = 1, 2 or inf;
            other norms have no default.
        steps: the number of iterations of ``pga``, 10 if not given.
        alpha: the step size of ``pga``; the paper's ``2 eps / steps`` if not given, ``inf`` for
            the limit of large steps.
        lam: the weight of Eq. 14; ``inf`` for the perturbed inputs alone (not with ``lq``).

    Raises:
        OnrError: an argument is out of range, ``attack`` is neither ``pga`` nor ``fgm``, or
            ``steps`` or ``alpha`` is given for ``fgm``.

    Example:
        >>> adversarial_training(p="inf", eps=0.1, steps=4).settings["alpha"]
        0.05

    """
    norm, radius = norm_named(p), training_radius(norm_named(p), eps)
    ascended = loss_of(loss)
    if not lam >= 0 or (lam == math.inf and ascended.uses_clean):
        raise OnrError(f"lam = {lam:g}: expected a number >= 0, finite for loss {loss}")
    settings: dict[str, str | float] = {"attack": attack, "p": norm.name, "loss": ascended.name}
    settings |= {"eps": radius}
    if attack == "fgm":
        if steps is not None or alpha is not None:
            raise OnrError("attack fgm is one step of length eps: leave out steps and alpha")
        fast = FastGradient(p=norm, loss=ascended, eps=radius)
        return AdversarialTraining(fast, ascended, lam, settings | {"lam": lam})
    if attack != "pga":
        raise OnrError(f"attack = {attack!r}: expected pga or fgm")
    steps = 10 if steps is None else steps
    ascent = ProjectedGradientAscent(
        p=norm, loss=ascended, eps=radius, steps=steps, alpha=alpha, keep="last"
    )
    settings |= {"steps": steps, "alpha": ascent.alpha, "lam": lam}
    return AdversarialTraining(ascent, ascended, lam, settings)
