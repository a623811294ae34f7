"""The attacks of foolbox."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch

from onr.errors import OnrError
from onr.feasible import Bounds
from onr.protocols import Norm
from onr_torch.library_attacks.library import Classifier, LibraryAttack, accepted, library

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
    """``foolbox:NAME``, as ``foolbox:L2PGD``; it ascends its own loss.

    Attacks that look for the smallest perturbation are clipped to the ball by foolbox. Where the
    library's step size is relative to eps, fewer steps are longer by as much.

    Args:
        name: a class of ``foolbox.attacks``.
        p: the norm in which that attack measures.
        eps: the radius, pixels in [0, 1].
        steps: iterations, if it counts them; by default the library's.
        restarts: how often it runs; each example keeps its first success.
        bounds: the box of valid inputs, [0, 1].

    Raises:
        OnrError: foolbox is not installed, it has no such attack, or that attack has another norm,
            takes no such option or needs others; when called, foolbox refuses.

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
