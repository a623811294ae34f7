"""Panels and claims of the figures of shared activations (Figs. 5 and 9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim
from onr.plots import chosen, line
from onr.typing import Row
from onr_validation.reproduction.drawing import colour, least, ratio, training_eps, value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["activation_axes", "changed_ratio", "larger_cells"]


def activation_axes(axes: Axes, rows: Sequence[Row], methods: Iterable[str], eps: float) -> None:
    """Draw the share of units in the same state against eps.

    Args:
        axes: the axes to draw on.
        rows: rows of :func:`onr.measurements.activations.activations`, with a column ``method``.
        methods: the methods to draw.
        eps: the radius of training, where a dashed line is drawn.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> activation_axes(axes, [], [], 1.0)
        >>> axes.get_ylabel()
        'share of units in the same state'

    """
    for method in methods:
        mine = chosen(rows, method=method, quantity="shared")
        line(axes, mine, "eps", label=method, color=colour(method))
    training_eps(axes, eps)
    axes.set(xlabel="eps, 2-norm, pixels in [0, 1]", ylabel="share of units in the same state")
    axes.set_ylim(top=1)
    axes.set_xlim(left=0)


def changed_ratio(rows: Sequence[Row], method: str, eps: float) -> float:
    """The share of units that change with ``standard``, divided by the share with a method.

    Example:
        >>> row = {"quantity": "shared", "eps": 0.5}
        >>> rows = [row | {"method": "standard", "mean": 0.5}, row | {"method": "at", "mean": 0.75}]
        >>> changed_ratio(rows, "at", 0.5)
        2.0

    """

    def changed(name: str) -> float:
        return 1 - value(rows, method=name, quantity="shared", eps=eps)

    return ratio(changed("standard"), changed(method))


def larger_cells(rows: Sequence[Row], methods: Sequence[str], eps: float, where: str) -> Claim:
    """Claim that the methods' ReLU cells around data are larger than those of ``standard``.

    Example:
        >>> row = {"quantity": "shared", "eps": 0.5}
        >>> rows = [row | {"method": "standard", "mean": 0.5}, row | {"method": "at", "mean": 0.75}]
        >>> larger_cells(rows, ["at"], 0.5, "").held
        True

    """
    return Claim(
        f"{' and '.join(methods)} increase the size of the ReLU cells around data {where}",
        "units that change with standard over those that change with it, least of them, at the "
        "eps of training",
        least(changed_ratio(rows, method, eps) for method in methods),
        at_least=1.25,
    )
