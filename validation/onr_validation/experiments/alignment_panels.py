"""Panels and claims of the figures of alignment against eps (Figs. 8, 11, 13, 14)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from onr.experiments import Claim
from onr.plots import chosen, line
from onr.typing import Row
from onr_validation.reproduction.drawing import colour, largest, least, ratio, training_eps, value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["align_alike", "alignment_axes", "alignment_claims"]

MARGIN = 0.02
"""The smallest difference of |cos| that counts."""
LABELS = {"cosine": "|cos(perturbation, v_1)|", "correlation": "|correlation(perturbation, v_1)|"}


def alignment_axes(
    axes: Axes,
    table: Sequence[Row],
    methods: Iterable[str],
    p: str,
    eps: float,
    quantity: str = "cosine",
) -> None:
    """Draw alignment with the dominant singular vector against eps; random directions are dotted.

    Args:
        axes: the axes to draw on.
        table: rows of :func:`onr.measurements.alignment.alignment`, with a column ``method``.
        methods: the methods to draw.
        p: the norm of the attack; for ``inf`` the unit of eps is 1/255.
        eps: the radius of training, in pixels in [0, 1], where a dashed line is drawn.
        quantity: ``cosine`` or ``correlation``.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> alignment_axes(axes, [], [], "2", 1.0)
        >>> axes.get_ylabel()
        '|cos(perturbation, v_1)|'

    """
    scale = 255 if p == "inf" else 1
    rows = [{**row, "eps": row["eps"] * scale} for row in chosen(table, quantity=quantity)]
    for method in methods:
        mine = chosen(rows, method=method)
        adversarial = chosen(mine, direction="adversarial")
        line(axes, adversarial, "eps", label=method, color=colour(method))
        random = chosen(mine, direction="random")
        line(axes, random, "eps", label=f"{method}, random", color=colour(method), style=":")
    training_eps(axes, eps * scale)
    unit = "eps in 1/255, inf-norm" if p == "inf" else "eps, 2-norm, pixels in [0, 1]"
    axes.set(xlabel=unit, ylabel=LABELS[quantity], ylim=(0, 1))
    axes.set_xlim(left=0)


def align_alike(table: Sequence[Row], one: str, other: str, where: str) -> Claim:
    """Claim that attacks align with the dominant singular vectors of two models to a like degree.

    Example:
        >>> same = {"quantity": "cosine", "direction": "adversarial", "eps": 1.0, "mean": 0.5}
        >>> align_alike([same | {"method": m} for m in ("at", "dd-snr")], "at", "dd-snr", "").held
        True

    """
    rows = chosen(table, quantity="cosine", direction="adversarial")
    radii = {row["eps"] for row in rows}
    gaps = [value(rows, method=one, eps=r) - value(rows, method=other, eps=r) for r in radii]
    return Claim(
        f"{one} and {other} align similarly {where}",
        "largest difference of |cos| over eps",
        largest(map(abs, gaps)),
        at_most=0.1,
    )


def alignment_claims(
    table: Sequence[Row], pair: tuple[str, str], others: Sequence[str], where: str
) -> list[Claim]:
    """The claims of section 7.14 about alignment.

    Args:
        table: rows of :func:`onr.measurements.alignment.alignment`, with a column ``method``.
        pair: adversarial training and its equivalent.
        others: the methods that should align less.
        where: the place of the claims in the paper.

    Example:
        >>> row = {"quantity": "cosine", "direction": "adversarial", "eps": 1.0, "mean": 0.5}
        >>> rows = [row | {"method": m} for m in ("at", "dd-snr", "standard")]
        >>> [claim.held for claim in alignment_claims(rows, ("at", "dd-snr"), ["standard"], "")]
        [True, True, False, False]

    """
    table = chosen(table, quantity="cosine")
    radii = sorted({row["eps"] for row in table})
    methods = (*pair, *others)

    def cosine(method: str, eps: float, direction: str = "adversarial") -> float:
        return value(table, method=method, direction=direction, eps=eps)

    def mean(method: str) -> float:
        return sum(cosine(method, eps) for eps in radii) / len(radii)

    return [
        Claim(
            f"for all methods larger perturbations align less {where}",
            "|cos| at the smallest eps less that at the largest, least of the methods",
            least(cosine(method, radii[0]) - cosine(method, radii[-1]) for method in methods),
            at_least=0,
        ),
        align_alike(table, *pair, where),
        Claim(
            f"both align more than {' and '.join(others)} {where}",
            "mean |cos| over eps, the lesser of the two less the largest of the others",
            least(map(mean, pair)) - largest(map(mean, others)),
            at_least=MARGIN,
        ),
        Claim(
            f"attacks align far more than random perturbations {where}",
            "|cos| of attacks over that of random directions, least over eps and methods",
            least(
                ratio(cosine(method, eps), cosine(method, eps, "random"))
                for method in methods
                for eps in radii
            ),
            at_least=3,
        ),
    ]
