"""The attacks of foolbox."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch

from onr.errors import OnrError
from onr.feasible import Bounds
from onr.protocols import Norm
from onr_torch.library_attacks.library_attack import Classifier, LibraryAttack, accepted, library

__all__ = ["foolbox_attack"]

NORMS = {"1": 1, "2": 2, "inf": math.inf}


def foolbox_attack(
    name: str,
    /,
    *,
    p: Norm,
    eps: float,
    steps: int | None = None,
    restarts: int = 1,
    bounds: Bounds = (0.0, 1.0),
) -> LibraryAttack:
    """The attack ``foolbox:NAME``, such as ``foolbox:L2PGD``, with the library's loss.

    foolbox clips attacks that look for the smallest perturbation to the ball. If the library's step
    size is relative to eps, it is scaled by the library's number of steps over ``steps``.

    Args:
        name: a class of ``foolbox.attacks``.
        p: the norm in which that attack measures.
        eps: the radius, pixels in [0, 1].
        steps: the number of iterations, for attacks that have one; by default the library's.
        restarts: how often the attack runs; each example keeps its first success.
        bounds: the box of valid inputs, [0, 1].

    Raises:
        OnrError: foolbox is not installed or has no such attack; the attack has another norm,
            lacks the option or needs other options; or, when called, foolbox refuses the inputs.

    """
    what = f"foolbox:{name}"
    foolbox = library("foolbox")
    made = getattr(foolbox.attacks, name, None)
    if not isinstance(made, type) or not issubclass(made, foolbox.attacks.Attack):
        raise OnrError(f"no attack {what}: expected one as L2PGD, LinfPGD or L2DeepFoolAttack")
    if restarts < 1:
        raise OnrError(f"restarts = {restarts}: expected at least 1")
    takes = {key: value.default for key, value in inspect.signature(made).parameters.items()}
    options: dict[str, Any] = accepted(made, what, {"steps": steps})
    if p.name not in NORMS:
        raise OnrError(f"{what} knows no norm {p.name}: expected one of {', '.join(NORMS)}")
    if "distance" in takes:
        options["distance"] = foolbox.distances.LpDistance(NORMS[p.name])
    if steps is not None and "rel_stepsize" in takes:
        options["rel_stepsize"] = takes["rel_stepsize"] * takes["steps"] / steps
    try:
        attack = made(**options)
    except (TypeError, ImportError) as error:
        raise OnrError(f"{what} cannot be made with these options alone: {error}") from error
    measures = getattr(attack, "distance", None)
    if getattr(measures, "p", None) != NORMS[p.name]:
        raise OnrError(f"{what} knows no norm {p.name}: it measures {measures}")

    def run(classifier: Classifier, x: torch.Tensor, y: torch.Tensor, seed: int) -> torch.Tensor:
        model = foolbox.PyTorchModel(classifier, bounds=bounds, device=x.device)
        try:
            found: torch.Tensor = attack.repeat(restarts)(model, x, y, epsilons=eps)[1]
        except ValueError as error:
            raise OnrError(f"{what} cannot attack this: {error}") from error
        return found

    return LibraryAttack(run, origin="foolbox", p=p, eps=eps, bounds=bounds)
