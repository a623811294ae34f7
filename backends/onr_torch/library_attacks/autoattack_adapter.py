"""AutoAttack (Croce and Hein, 2020), as implemented by pyautoattack."""

from __future__ import annotations

import sys

import torch

from onr.arrays import column
from onr.errors import OnrError
from onr.feasible import Bounds
from onr.protocols import Norm
from onr_torch.library_attacks.library_attack import Classifier, LibraryAttack, library

__all__ = ["NORMS", "autoattack"]

NORMS = {"1": "L1", "2": "L2", "inf": "Linf"}


def autoattack(*, p: Norm, eps: float, bounds: Bounds = (0.0, 1.0)) -> LibraryAttack:
    """AutoAttack's standard version: APGD on cross-entropy and targeted, FAB targeted, Square.

    AutoAttack has its own losses, steps and restarts, and works in float32. Examples that it does
    not break are returned unchanged. With fewer than ten classes, all other classes are targets.
    The logger ``auto-attack`` reports what AutoAttack's own checks find.

    Args:
        p: the norm of the ball, 1, 2 or inf.
        eps: the radius, pixels in [0, 1].
        bounds: the box of valid inputs, [0, 1].

    Raises:
        OnrError: pyautoattack is not installed, the norm is not 1, 2 or inf, or the box is not
            [0, 1]; when the attack is called, the network has fewer than four classes.

    """
    made = library("pyautoattack").AutoAttack
    if p.name not in NORMS:
        raise OnrError(f"autoattack knows no norm {p.name}: expected one of {', '.join(NORMS)}")

    def run(classifier: Classifier, x: torch.Tensor, y: torch.Tensor, seed: int) -> torch.Tensor:
        with torch.no_grad():
            classes = classifier(x[:1]).shape[1]
        if classes < 4:
            raise OnrError(f"autoattack needs four classes or more for its losses, got {classes}")
        attack = made(classifier, eps=eps, norm=NORMS[p.name], seed=seed, device=x.device)
        for part in (attack.apgd_targeted, attack.fab):
            part.n_target_classes = min(part.n_target_classes, classes - 1)
        trace = sys.gettrace()  # one of AutoAttack's checks removes the trace function
        try:
            found: torch.Tensor = attack.run_standard_evaluation(x.float(), y, batch_size=len(x))[0]
        finally:
            sys.settrace(trace)
        # Return float64 examples that were not broken as given, not rounded to float32.
        return torch.where(column((found == x.float()).flatten(1).all(dim=1), x), x, found)

    return LibraryAttack(run, origin="pyautoattack", p=p, eps=eps, bounds=bounds)
