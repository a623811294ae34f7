"""The axes that the charts of audits share: the radius, and the accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onr.auditing.pages.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis
from onr.auditing.wording import eps_text, figure, norm_text, unit

__all__ = ["accuracy_axis", "in_unit", "radius_axis"]


def radius_axis(record: Mapping[str, Any]) -> Axis:
    """The horizontal axis of charts over eps, in the unit in which eps was written.

    Example:
        >>> axis = radius_axis({"p": "inf", "eps": "8/255", "radii": {"8/255": 8 / 255}})
        >>> axis.label, [text for _, text in axis.ticks]
        ('radius, l-inf, in 1/255', ['0', '8'])

    """
    eps, radii = eps_text(record), record["radii"]
    scale = unit(eps)
    ticks = [(0.0, "0"), *((r, figure(r * scale)) for r in radii.values())]
    label = f"radius, {norm_text(str(record['p']))}" + in_unit(eps)
    end = WIDTH - RIGHT - 6
    return Axis(0, max(radii.values()), LEFT, end, label=label, given=ticks)


def accuracy_axis() -> Axis:
    """The vertical axis of charts of accuracies, from 0 to 100 %.

    Example:
        >>> accuracy_axis().ticks[1]
        (0.2, '20')

    """
    ticks = [(k / 5, str(20 * k)) for k in range(6)]
    return Axis(0, 1, HEIGHT - BOTTOM, TOP, label="accuracy, %", given=ticks)


def in_unit(eps: str, /) -> str:
    """What the label of an axis of radii ends with: the unit in which eps was written.

    Example:
        >>> in_unit("8/255"), in_unit("0.5")
        (', in 1/255', '')

    """
    return f", in 1/{unit(eps):g}" if unit(eps) != 1 else ""
