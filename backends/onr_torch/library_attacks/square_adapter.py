"""Square (Andriushchenko et al., 2020), as implemented by pyautoattack."""

from __future__ import annotations

import torch

from onr.errors import OnrError
from onr.feasible import Bounds
from onr.protocols import Norm
from onr_torch.library_attacks.autoattack_adapter import NORMS
from onr_torch.library_attacks.library_attack import Classifier, LibraryAttack, library

__all__ = ["square"]


def square(
    *,
    p: Norm,
    eps: float,
    steps: int = 5000,
    restarts: int = 1,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int | None = None,
) -> LibraryAttack:
    """Random search on the margin by squares of pixels; it asks for logits alone.

    Examples that it does not break are returned unchanged.

    Args:
        p: the norm of the ball, 1, 2 or inf.
        eps: the radius, pixels in [0, 1].
        steps: the most queries of an example, from each start. The sizes of the squares follow a
            schedule over these.
        restarts: the number of random starts.
        bounds: the box of valid inputs, [0, 1].
        batch_size: how many examples pass the network at once; all if not given.

    Raises:
        OnrError: pyautoattack is not installed, the norm is not 1, 2 or inf, a number is below 1,
            or the box is not [0, 1].

    """
    library("pyautoattack")
    made = library("pyautoattack.square").SquareAttack
    if p.name not in NORMS:
        raise OnrError(f"square knows no norm {p.name}: expected one of {', '.join(NORMS)}")
    for name, value in {"steps": steps, "restarts": restarts, "batch_size": batch_size}.items():
        if value is not None and value < 1:
            raise OnrError(f"square, {name} = {value}: expected at least 1")

    def run(classifier: Classifier, x: torch.Tensor, y: torch.Tensor, seed: int) -> torch.Tensor:
        def predict(images: torch.Tensor) -> torch.Tensor:
            # An example whose margin is exactly 0 at the start may leave no example to ask for.
            if not len(images):
                return images.new_zeros(0, classes)
            return torch.cat(
                [classifier(part) for part in torch.split(images, batch_size or len(x))]
            )

        with torch.no_grad():
            classes = classifier(x[:1]).shape[1]
            attack = made(
                predict, norm=NORMS[p.name], n_queries=steps, eps=eps, n_restarts=restarts,
                seed=seed, device=x.device,
            )  # fmt: skip
            found: torch.Tensor = attack.perturb(x.float(), y)
        return torch.where((found == x.float()).flatten(1).all(1)[:, None, None, None], x, found)

    return LibraryAttack(run, origin="pyautoattack", p=p, eps=eps, bounds=bounds)
