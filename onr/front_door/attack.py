"""Perturbed inputs, by any registered attack."""

from __future__ import annotations

from typing import Any

from onr.feasible import Bounds
from onr.front_door.arguments import (
    RngLike,
    generator,
    labels_of,
    radius,
    require_bounds,
    warn_of,
)
from onr.front_door.models import network_of
from onr.front_door.results import in_package_of
from onr.measurements.loaders import taken
from onr.numerals import require_whole
from onr.protocols import Loss, NormLike
from onr.text import attack_by_name, norm
from onr.typing import Array

__all__ = ["attack"]


def attack(
    model: Any,
    x: Array,
    y: Array,
    /,
    *,
    p: NormLike,
    eps: float | str,
    attack: str = "onr_paper:pga",
    loss: Loss | str | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    targeted: bool = False,
    bounds: Bounds | None = (0.0, 1.0),
    rng: RngLike = None,
    **options: Any,
) -> Array:
    """Perturbed inputs in the p-ball of radius ``eps`` about ``x``, shaped as ``x``.

    Args:
        model: a network, a ``torch.nn.Module`` in evaluation mode, or a plugin's model.
        x: inputs inside ``bounds``, shape ``(batch, *input_shape)``.
        y: labels to lead away from, or the classes to lead to if ``targeted``; ``(batch,)``.
        p: the norm of the ball.
        eps: its radius, in the units of ``x``; 0 returns ``x``.
        attack: the name of a registered attack; ``onr plugins`` lists them.
        loss: what it ascends, by name or as an object; cross-entropy if not given.
        steps: its iterations; the attack's own default if not given (20 for ``pga``).
        restarts: its random starts; the attack's own default if not given (1 for ``pga``).
        targeted: lead to ``y``.
        bounds: the box of valid inputs; ``None`` for none.
        rng: of the random starts; the same seed gives the same result.
        options: further options of the attack, as ``alpha=inf``.

    Raises:
        OnrError: the model does not fit ``x``, an input is outside the bounds, or the attack does
            not take what it was given.

    Example:
        >>> import onr, torch
        >>> model, x = torch.nn.Linear(3, 2), torch.rand(4, 3)
        >>> moved = onr.attack(model, x, model(x).argmax(1), p="inf", eps="8/255")
        >>> bool(((moved - x).abs() <= 8 / 255 + 1e-6).all())
        True

    """
    network = network_of(model, x)
    require_whole(steps=steps, restarts=restarts)
    require_bounds(bounds)
    chosen = attack_by_name(
        attack, loss=loss, steps=steps, restarts=restarts, options=options, targeted=targeted
    )
    ball, size = norm(p), radius(eps)
    if bounds == (0.0, 1.0):
        warn_of(ball, size)
    made = chosen.make(ball, size, bounds)
    inputs = taken(network, x)
    moved = made(network.frozen(), inputs, labels_of(y, network, inputs), rng=generator(rng))
    return in_package_of(x, moved)
