"""The method ``at``: adversarial training (Eqs. 14, 112)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.errors import OnrError
from onr.protocols import Array, Attack, Cost, Loss, Network, NormLike, Outputs, Probe
from onr.registry import bare, canonical, load
from onr.text import attack_by_name, leads_to_label, loss_of
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

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of the library that the attack is from, for the record of a run."""
        found: Mapping[str, str] = getattr(self.attack, "versions", {})
        return found

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
    attack: str = "onr_paper:pga",
    p: NormLike = 2,
    loss: str = "onr_paper:cross-entropy",
    eps: float | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    lam: float = 1.0,
    **options: Any,
) -> AdversarialTraining:
    """Build the method ``at``: adversarial training.

    Args:
        attack: a registered attack, as :func:`onr.text.attack_by_name` takes it: ``pga``,
            projected gradient ascent from a random start; ``fgm``, one step of length eps from the
            input itself; ``torchattacks:PGDL2``; or a plugin's.
        p: the norm of the ball.
        loss: the loss that is ``l_adv`` of the cost, and that the attack ascends if it takes one;
            attacks of other libraries have their own. ``cross-entropy``, ``margin``, ``lq:Q``, or a
            plugin's.
        eps: the radius, pixels in [0, 1]. If not given, 12, 0.5 or 8/255 for p = 1, 2 or inf;
            other norms have no default.
        steps: the number of iterations; the attack's own if not given, but 10 for ``pga``.
        restarts: the number of random starts; the attack's own if not given, 1 for ``pga``.
        lam: the weight of Eq. 14; ``inf`` for the perturbed inputs alone (not with ``lq``).
        options: further options of the attack, as text or as their values, such as ``alpha`` of
            ``pga``: the paper's ``2 eps / steps`` if not given, ``inf`` for the limit of large
            steps. ``keep`` of ``pga`` is ``last`` if not given, and ``best`` with several restarts.

    Raises:
        OnrError: an argument is out of range, there is no such attack, the attack does not take an
            option that is given, or the loss leads to the label.

    Example:
        >>> adversarial_training(p="inf", eps=0.1, steps=4).settings["alpha"]
        0.05

    """
    norm, radius = norm_named(p), training_radius(norm_named(p), eps)
    paid = loss_of(loss)
    if not lam >= 0 or (lam == math.inf and paid.uses_clean):
        raise OnrError(f"lam = {lam:g}: expected a number >= 0, finite for loss {loss}")
    if leads_to_label(paid):
        raise OnrError(
            f"loss {loss} leads to the label, so that training would lead away from it: choose one "
            "that leads away, as cross-entropy"
        )
    of_paper = canonical("attack", attack) == "onr_paper:pga"
    takes = inspect.signature(load("attack", attack)).parameters
    for name in options:
        if name not in takes:
            raise OnrError(
                f"method at takes no option {name!r}: it takes attack, p, loss, eps, steps, "
                f"restarts and lam, and those of attack {bare(attack)}"
            )
    keep = {"keep": "last" if restarts in (None, 1) else "best"} if of_paper else {}
    named = attack_by_name(
        attack,
        loss=paid if "loss" in takes else None,
        steps=10 if of_paper and steps is None else steps,
        restarts=restarts,
        options=keep | options,
    )
    made = named.make(norm, radius, (0.0, 1.0))
    settings: dict[str, str | float] = {"attack": bare(attack), "p": norm.name, "loss": paid.name}
    settings["eps"] = radius
    if named.steps is not None:
        settings["steps"] = named.steps
    if named.restarts not in (None, 1):
        settings["restarts"] = named.restarts
    settings |= options
    if isinstance(made, ProjectedGradientAscent):
        settings["alpha"] = made.alpha
    return AdversarialTraining(made, paid, lam, settings | {"lam": lam})
