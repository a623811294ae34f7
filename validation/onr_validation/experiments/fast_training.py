"""What the frontiers of fast training are measured by: a strong attack, and the time of a step."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from onr.architectures import Normalize
from onr.data import Split
from onr.measurements.accuracy import accuracy
from onr.measurements.batches import Inputs
from onr.norms import as_norm
from onr.protocols import Method, Network, Norm
from onr.registry import load
from onr.text import call
from onr.training.optimizers import Optimizer
from onr.training.protocols import Backend
from onr.typing import Array, Row
from onr_paper.models import cnn7

__all__ = ["robust_accuracy", "step_seconds"]


def robust_accuracy(
    network: Network,
    x: Inputs,
    y: Array,
    /,
    *,
    p: Norm,
    radius: float,
    parts: Sequence[float],
    seed: int = 0,
) -> list[Row]:
    """Accuracy, clean and under ``multitargeted``, at parts of a radius, which the rows name.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> rows = robust_accuracy(network, x, y, p=LpNorm(2), radius=0.2, parts=[0.5, 1])
        >>> [(row["part"], row["eps"]) for row in rows]
        [(0.0, 0.0), (0.5, 0.1), (1, 0.2)]

    """
    eps = [part * radius for part in parts]
    rows = accuracy(network, x, y, p=as_norm(p), eps=eps, seed=seed)
    return [{"part": part, **row} for part, row in zip([0.0, *parts], rows, strict=True)]


def step_seconds(
    *,
    methods: Sequence[str],
    p: str,
    eps: str,
    width: int,
    batch: int,
    turns: int,
) -> list[Row]:
    """The time of a training step of CNN7 on random images, the methods by turns in one process.

    Args:
        methods: for each method the label of its row, its name and its options, as in
            ``at-1 onr_paper:at steps=1``.
        p: the norm that every method is given.
        eps: the radius that every method is given.
        width: the width of CNN7.
        batch: how many images a step takes.
        turns: how many steps of each method are timed, after one that is not.

    Example:
        >>> given = {"p": "inf", "eps": "8/255", "width": 1, "batch": 2, "turns": 1}
        >>> (row,) = step_seconds(methods=["at-1 onr_paper:at steps=1"], **given)
        >>> row["method"], row["mean"] > 0
        ('at-1', True)

    """
    backend: Backend = load("backend", "onr_torch:torch")()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, 3, 32, 32), dtype=np.uint8)
    split = Split(images, rng.integers(0, 10, batch))
    network = cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=width)
    learners, seconds = {}, {}
    for text in methods:
        label, name, *options = text.split()
        given = {"p": p, "eps": eps} | dict(option.split("=", 1) for option in options)
        method: Method = call(load("method", name), given, what=f"method {name}")
        learners[label] = backend.learner(
            backend.build(network), method, split, optimizer=Optimizer()
        )
        seconds[label] = list[float]()
    for turn in range(turns + 1):
        for label, learner in learners.items():
            begun = time.perf_counter()
            float(learner.step(np.arange(batch), lr=1e-3, rng=np.random.default_rng(turn)))
            if turn > 0:
                seconds[label].append(time.perf_counter() - begun)
    return [
        {
            "quantity": "seconds a step",
            "method": label,
            "mean": float(np.median(found)),
            "standard_error": float(np.std(found) / np.sqrt(len(found))),
        }
        for label, found in seconds.items()
    ]
