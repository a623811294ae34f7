"""Panels and claims of the figures of local linearity (Figs. 4, 10, 12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim
from onr.plots import chosen, legend, line, panels
from onr.typing import Row
from onr_validation.reproduction.drawing import colour, largest, ratio, training_eps, value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["linearity_claims", "linearity_figure"]


def linearity_figure(table: Sequence[Row], methods: Iterable[str], eps: float) -> Figure:
    """Draw deviation from linearity (left) and largest singular value (right) against distance.

    Args:
        table: rows of :func:`onr.measurements.linearity.linearity`, with a column ``method``.
        methods: the methods to draw.
        eps: the radius of training, where a dashed line is drawn.

    Example:
        >>> len(linearity_figure([], [], 1.0).axes)
        2

    """
    figure, axes = panels("deviation from linearity", "largest singular value at x + z")
    for axis, quantity, name in zip(
        axes,
        ("deviation", "sigma_1"),
        ("||phi(x + z) - (phi(x) + J z)||", "sigma_1 of the features' Jacobian"),
        strict=True,
    ):
        for method in methods:
            for direction, style in (("adversarial", "-"), ("random", ":")):
                rows = chosen(table, method=method, quantity=quantity, direction=direction)
                label = method if direction == "adversarial" else f"{method}, random"
                line(axis, rows, "distance", label=label, color=colour(method), style=style)
        training_eps(axis, eps)
        axis.set(xlabel="||z||, 2-norm, pixels in [0, 1]", ylabel=name)
        axis.set_ylim(bottom=0)
        axis.set_xlim(left=0)
    legend(figure)
    return figure


def linearity_claims(
    table: Sequence[Row], methods: Sequence[str], radius: float, where: str
) -> list[Claim]:
    """The claims that methods are more linear than standard, with a low singular value.

    Args:
        table: rows of :func:`onr.measurements.linearity.linearity`, with a column ``method``.
        methods: the methods that should be more linear.
        radius: the radius of the attack at which methods are compared.
        where: the place of the claims in the paper.

    Example:
        >>> row = {"quantity": "sigma_1", "direction": "adversarial", "eps": 1.0}
        >>> rows = [row | {"method": "standard", "mean": 4.0}, row | {"method": "at", "mean": 1.0}]
        >>> linearity_claims(rows, ["at"], 1.0, "")[-1].held
        True

    """

    def found(method: str, quantity: str) -> float:
        rows = chosen(table, direction="adversarial", eps=radius)
        return value(rows, method=method, quantity=quantity)

    def over_theirs(quantity: str) -> float:
        return ratio(found("standard", quantity), largest(found(m, quantity) for m in methods))

    names, place = " and ".join(methods), f"along the attack of radius {radius:.3g}"
    return [
        Claim(
            f"{names} are significantly more linear than standard {where}",
            f"deviation of standard over the larger of theirs, {place}",
            over_theirs("deviation"),
            at_least=2,
        ),
        Claim(
            f"{names} are more linear than standard over the change of their features too "
            f"{where}, our own",
            "deviation over the change of the features, standard over the larger of theirs, "
            f"{place}",
            over_theirs("relative deviation"),
            at_least=1.25,
        ),
        Claim(
            f"for {names} the Jacobian is a good approximation in the entire ball {where}",
            f"deviation over the change of the features, the larger of theirs, {place}",
            largest(found(m, "relative deviation") for m in methods),
            at_most=0.5,
        ),
        Claim(
            f"{names} keep the largest singular value low in the vicinity of x {where}",
            f"sigma_1 of standard over the larger of theirs, {place}",
            over_theirs("sigma_1"),
            at_least=2,
        ),
    ]
