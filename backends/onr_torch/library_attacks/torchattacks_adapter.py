"""The attacks of torchattacks that have a radius."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from onr.errors import OnrError
from onr.feasible import Bounds
from onr.protocols import Norm
from onr_torch.library_attacks.library_attack import Classifier, LibraryAttack, accepted, library

__all__ = ["torchattacks_attack"]

NORMS = {"2": "L2", "inf": "Linf"}


def torchattacks_attack(
    name: str,
    /,
    *,
    p: Norm,
    eps: float,
    steps: int | None = None,
    restarts: int | None = None,
    bounds: Bounds = (0.0, 1.0),
) -> LibraryAttack:
    """The attack ``torchattacks:NAME``, such as ``torchattacks:PGDL2``, with the library's loss.

    The step size ``alpha`` is scaled so that the length of the whole path, in units of eps, stays
    the library's. Other settings in pixels (``lr`` of SPSA) keep the library's value.

    Args:
        name: a class of torchattacks whose constructor has an ``eps``.
        p: the norm of the ball: 2 or inf for attacks with an option ``norm``, 2 for names that end
            in L2, inf for all others.
        eps: the radius, pixels in [0, 1].
        steps: the number of iterations, for attacks that have one; by default the library's.
        restarts: the number of random starts, for attacks that have one; by default the library's.
        bounds: the box of valid inputs, [0, 1].

    Raises:
        OnrError: torchattacks is not installed or has no such attack, or the attack has another
            norm or lacks the option.

    """
    what = f"torchattacks:{name}"
    made = getattr(library("torchattacks"), name, None)
    takes: dict[str, Any] = {}
    if isinstance(made, type):
        takes = {key: value.default for key, value in inspect.signature(made).parameters.items()}
    if made is None or "eps" not in takes or takes["eps"] is inspect.Parameter.empty:
        raise OnrError(f"no attack {what} with a radius: expected one as PGD, PGDL2 or APGD")
    norms = tuple(NORMS) if "norm" in takes else ("2",) if name.endswith("L2") else ("inf",)
    if p.name not in norms:
        raise OnrError(f"{what} knows no norm {p.name}: expected {' or '.join(norms)}")
    options = accepted(made, what, {"steps": steps, "n_restarts": restarts})
    if "norm" in takes:
        options["norm"] = NORMS[p.name]
    if "alpha" in takes:
        fewer = takes["steps"] / options["steps"] if "steps" in options else 1
        options["alpha"] = takes["alpha"] * eps / takes["eps"] * fewer

    def run(classifier: Classifier, x: torch.Tensor, y: torch.Tensor, seed: int) -> torch.Tensor:
        later = {"seed": seed}
        if "n_classes" in takes:
            with torch.no_grad():
                later["n_classes"] = classifier(x[:1]).shape[1]
        now = {key: value for key, value in later.items() if key in takes}
        found: torch.Tensor = made(classifier, eps=eps, **options, **now)(x, y)
        return found

    return LibraryAttack(run, origin="torchattacks", p=p, eps=eps, bounds=bounds)
