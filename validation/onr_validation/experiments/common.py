"""What several experiments share: the paper's methods, and measurements of each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from onr.experiments import Experiment, Measurement
from onr_validation.reproduction.scales import Scale

__all__ = ["L2_METHODS", "LINF_METHODS", "OWN_METHODS", "of_methods"]

L2_METHODS = ("standard", "at", "dd-snr", "global-snr")
LINF_METHODS = ("standard", "at-linf", "dd-onr", "global-snr")
OWN_METHODS = ("at", "dd-snr", "dd-onr-exact", "dd-snr-warm")
"""The paper's two and the two that it lacks."""


def of_methods(
    scale: Scale,
    methods: Iterable[str],
    measurement: str,
    settings: Mapping[str, Any],
    *,
    labels: Mapping[str, str | float] | None = None,
    seeds: Iterable[int] | None = None,
    data: str = "cifar10",
    network: str = "cnn7",
    reference: bool = False,
) -> list[Measurement]:
    """One measurement of each method's model.

    Args:
        scale: of the models.
        methods: what the figures call them.
        measurement: the registered name of what to measure.
        settings: of the measurement.
        labels: columns before ``method`` and ``seed``.
        seeds: of the models; the scale's first if not given.
        data: the role of the models' data set.
        network: the role of their network.
        reference: whether the measurement is given the network as it was drawn, too.

    """
    return [
        Measurement(
            measurement,
            scale.model(method, seed=seed, data=data, network=network),
            settings,
            {**(labels or {}), "method": method, "seed": seed},
            reference=reference,
        )
        for method in methods
        for seed in (scale.seeds[:1] if seeds is None else seeds)
    ]


def for_own_methods(figure: Callable[..., Experiment], number: int, **more: Any) -> Any:
    """A figure of the paper, drawn for the two methods that the paper lacks.

    Args:
        figure: the figure's class.
        number: its number in the paper.
        more: further arguments of the class.

    """
    title = f"Fig. {number} for {' and '.join(OWN_METHODS[2:])}"
    return partial(figure, title=title, methods=OWN_METHODS, **more)
