"""What several experiments share: the paper's methods, and a measurement for each method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from onr.experiments import Experiment, Measurement
from onr_validation.reproduction.scales import Scale

__all__ = ["L2_METHODS", "LINF_METHODS", "OWN_METHODS", "for_own_methods", "of_methods"]

L2_METHODS = ("standard", "at", "dd-snr", "global-snr")
LINF_METHODS = ("standard", "at-linf", "dd-onr", "global-snr")
OWN_METHODS = ("at", "dd-snr", "dd-onr-exact", "dd-snr-warm")
"""Two methods of the paper, then two methods that the paper lacks."""


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
    """One measurement for the model of each method and seed.

    Args:
        scale: the scale of the models.
        methods: the methods' names in the figures.
        measurement: the registered name of the measurement.
        settings: the settings of the measurement.
        labels: columns of the table before ``method`` and ``seed``.
        seeds: the seeds of the models; only the scale's first seed if not given.
        data: the role of the models' data set.
        network: the role of the models' network.
        reference: whether the measurement also receives the untrained network.

    Example:
        >>> from onr_validation.reproduction.scales import scale_named
        >>> settings = {"p": "2", "eps": [1.0], "images": 360}
        >>> (found,) = of_methods(scale_named("tiny"), ["at"], "onr_validation:accuracy", settings)
        >>> dict(found.labels)
        {'method': 'at', 'seed': 0}

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
    """A factory of a figure of the paper, drawn for the two methods that the paper lacks.

    Args:
        figure: the figure's class.
        number: the figure's number in the paper.
        more: further arguments of the figure's class.

    """
    title = f"Fig. {number} for {' and '.join(OWN_METHODS[2:])}"
    return partial(figure, title=title, methods=OWN_METHODS, **more)
