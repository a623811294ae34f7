"""The common part of Figs. 11, 13 and 14: accuracy on the left, alignment on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onr.experiments import Measurement
from onr.plots import chosen, legend, panels
from onr.typing import Row
from onr_validation.experiments.accuracy_curves import accuracy_axes
from onr_validation.experiments.alignment_panels import alignment_axes
from onr_validation.experiments.common import of_methods
from onr_validation.reproduction.scales import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["both_measurements", "both_panels"]


def both_measurements(scale: Scale, methods: Sequence[str], p: str) -> list[Measurement]:
    """Measurements of the accuracy and the alignment of each method's network.

    Args:
        scale: the scale of the models.
        methods: the methods' names in the figures.
        p: the norm of the attacks.

    Example:
        >>> from onr_validation.reproduction.scales import scale_named
        >>> len(both_measurements(scale_named("tiny"), ["at", "dd-snr"], "inf"))
        4

    """
    settings = {"p": p, "eps": scale.radii[p], "images": scale.images}
    return [
        *of_methods(scale, methods, "onr_validation:accuracy", settings),
        *of_methods(scale, methods, "onr_validation:alignment", settings),
    ]


def both_panels(table: Sequence[Row], methods: Sequence[str], p: str, eps: float) -> Figure:
    """Draw accuracy (left) and alignment with the dominant singular vector (right) against eps.

    Args:
        table: rows of the measurements that :func:`both_measurements` lists.
        methods: the methods to draw.
        p: the norm of the attacks.
        eps: the radius of training, in pixels in [0, 1].

    Example:
        >>> len(both_panels([], [], "2", 1.0).axes)
        2

    """
    figure, (left, right) = panels("accuracy", "alignment with the dominant singular vector")
    accuracy_axes(left, chosen(table, quantity="accuracy"), methods, p, eps)
    alignment_axes(right, table, methods, p, eps)
    legend(figure)
    return figure
