"""AutoAttack (Croce and Hein, 2020), by pyautoattack."""

from __future__ import annotations

import sys

import torch

from onr.arrays import column
from onr.errors import OnrError
from onr.feasible import Bounds
from onr.protocols import Norm
from onr_torch.library_attacks.library import Classifier, LibraryAttack, library

__all__ = ["autoattack"]

NORMS = {"1": "L1", "2": "L2", "inf": "Linf"}


def autoattack(*, p: Norm, eps: float, bounds: Bounds = (0.0, 1.0)) -> LibraryAttack:
    """AutoAttack's standard version: APGD on cross-entropy and targeted, FAB targeted, Square.

    It has its own losses, steps and restarts, and works in float32. Examples that it does not break
    are returned as they came. With fewer than ten classes all the others are targets. What its own
    checks find is logged by ``auto-attack``.

    Args:
        p: the norm of the ball, 1, 2 or inf.
        eps: the radius, pixels in [0, 1].
        bounds: the box of valid inputs, [0, 1].

    Raises:
        OnrError: pyautoattack is not installed, or the norm or the box is another; when called, the
            network has fewer than four classes.

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
        trace = sys.gettrace()  # which one of its checks takes away
        try:
            found: torch.Tensor = attack.run_standard_evaluation(x.float(), y, batch_size=len(x))[0]
        finally:
            sys.settrace(trace)
        # In float64 the others would come back rounded.
        return torch.where(column((found == x.float()).flatten(1).all(dim=1), x), x, found)

    return LibraryAttack(run, origin="pyautoattack", p=p, eps=eps, bounds=bounds)
