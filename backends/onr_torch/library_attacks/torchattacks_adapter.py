"""The attacks of torchattacks that have a radius."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from onr.errors import OnrError
from onr.feasible import Bounds
from onr.protocols import Norm
from onr_torch.library_attacks.library import Classifier, LibraryAttack, accepted, library

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
    """``torchattacks:NAME``, as ``torchattacks:PGDL2``; it ascends its own loss.

    The step size ``alpha`` is scaled so that the length of the whole path, in units of eps, stays
    the library's; what else an attack measures in pixels (``lr`` of SPSA) stays as it is there.

    Args:
        name: a class of torchattacks whose constructor has an ``eps``.
        p: the norm of its ball: l2 for names that end in L2, either for those with an option
            ``norm``, the largest magnitude for the others.
        eps: the radius, pixels in [0, 1].
        steps: iterations, if it counts them; by default the library's.
        restarts: random starts, if it has them; by default the library's.
        bounds: the box of valid inputs, [0, 1].

    Raises:
        OnrError: torchattacks is not installed, it has no such attack, or that attack has another
            norm or takes no such option.

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
