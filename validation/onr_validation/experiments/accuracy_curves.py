"""Panels and claims of the figures that show accuracy against eps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onr.experiments import Claim
from onr.measurements import accuracy as measured
from onr.measurements.batches import Inputs
from onr.measurements.perturbations import paper_attack
from onr.plots import average, chosen, line
from onr.protocols import Attack, Network, Norm
from onr.typing import Array, Row
from onr_validation.reproduction.drawing import colour, largest, least, training_eps, value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "accuracy",
    "accuracy_axes",
    "equally_robust",
    "largest_gap",
    "more_robust",
    "not_robust",
]

NEAR = 0.05
"""The largest difference of two accuracies that count as near each other."""
APART = 0.1
"""The smallest difference by which an accuracy counts as substantially higher."""


def accuracy(
    network: Network, x: Inputs, y: Array, /, *, p: Norm, eps: Sequence[float], seed: int = 0
) -> list[Row]:
    """Accuracy, clean and under the attack of the paper: ten steps on every image at every radius.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> [row["eps"] for row in accuracy(network, x, y, p=LpNorm(2), eps=[0.1])]
        [0.0, 0.1]

    """

    def attack(p: Norm, eps: float) -> Attack:
        return paper_attack(p, eps, boxed=True)

    return measured(network, x, y, p=p, eps=eps, attack=attack, seed=seed)


def accuracy_axes(
    axes: Axes, rows: Sequence[Row], methods: Iterable[str], p: str, eps: float
) -> None:
    """Draw accuracy against eps; for p = inf in units of 1/255, which the paper uses.

    Args:
        axes: the axes to draw on.
        rows: rows of :func:`onr.measurements.accuracy.accuracy`, with a column ``method``.
        methods: the methods to draw.
        p: the norm of the attack.
        eps: the radius of training, in pixels in [0, 1], where a dashed line is drawn.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> accuracy_axes(axes, [], [], "inf", 4 / 255)
        >>> axes.get_xlabel()
        'eps in 1/255, inf-norm'

    """
    scale = 255 if p == "inf" else 1
    shown = [{**row, "eps": row["eps"] * scale} for row in chosen(rows, quantity="accuracy")]
    for method in methods:
        line(axes, chosen(shown, method=method), "eps", label=method, color=colour(method))
    training_eps(axes, eps * scale)
    unit = "eps in 1/255, inf-norm" if p == "inf" else "eps, 2-norm, pixels in [0, 1]"
    axes.set(xlabel=unit, ylabel="accuracy", ylim=(0, 1))
    axes.set_xlim(left=0)


def largest_gap(rows: Sequence[Row], one: str, other: str) -> float:
    """The largest difference in accuracy between two methods over all eps, including 0.

    Example:
        >>> row = {"quantity": "accuracy", "eps": 0.5, "standard_error": 0.01}
        >>> rows = [row | {"method": "standard", "mean": 0.25}, row | {"method": "at", "mean": 0.5}]
        >>> largest_gap(rows, "standard", "at")
        0.25

    """
    curves = [
        average(chosen(rows, method=method, quantity="accuracy"), "eps")[1]
        for method in (one, other)
    ]
    return float(np.abs(curves[0] - curves[1]).max())


def equally_robust(rows: Sequence[Row], one: str, other: str, where: str) -> Claim:
    """Claim that the accuracies of two methods are near each other at every eps.

    Example:
        >>> row = {"quantity": "accuracy", "eps": 0.5, "standard_error": 0.01}
        >>> rows = [row | {"method": "standard", "mean": 0.25}, row | {"method": "at", "mean": 0.5}]
        >>> equally_robust(rows, "standard", "at", "").held
        False

    """
    return Claim(
        f"{one} and {other} are equally robust {where}",
        "largest difference in accuracy over eps",
        largest_gap(rows, one, other),
        at_most=NEAR,
    )


def more_robust(rows: Sequence[Row], methods: Sequence[str], eps: float, where: str) -> Claim:
    """Claim that methods are substantially more accurate than ``standard`` at the radius ``eps``.

    Example:
        >>> row = {"quantity": "accuracy", "eps": 0.5, "standard_error": 0.01}
        >>> rows = [row | {"method": "standard", "mean": 0.25}, row | {"method": "at", "mean": 0.5}]
        >>> more_robust(rows, ["at"], 0.5, "").held
        True

    """
    worst = least(value(rows, method=m, quantity="accuracy", eps=eps) for m in methods)
    return Claim(
        f"{' and '.join(methods)} are significantly more robust than standard {where}",
        "accuracy at the eps of training, the lesser of them, less that of standard",
        worst - value(rows, method="standard", quantity="accuracy", eps=eps),
        at_least=APART,
    )


def not_robust(rows: Sequence[Row], method: str, where: str) -> Claim:
    """Claim that a method is hardly more accurate than ``standard`` at any positive eps.

    The claim takes the largest gain over eps, because at a large eps every accuracy is zero.

    Example:
        >>> row = {"quantity": "accuracy", "eps": 0.5, "standard_error": 0.01}
        >>> rows = [row | {"method": "standard", "mean": 0.25}, row | {"method": "at", "mean": 0.5}]
        >>> not_robust(rows, "at", "").held
        False

    """
    radii = {row["eps"] for row in chosen(rows, method=method, quantity="accuracy")} - {0.0}
    gains = [
        value(rows, method=method, quantity="accuracy", eps=eps)
        - value(rows, method="standard", quantity="accuracy", eps=eps)
        for eps in radii
    ]
    return Claim(
        f"{method} does not robustify the model {where}",
        "its accuracy under attack less that of standard, largest over eps",
        largest(gains),
        at_most=NEAR,
    )
