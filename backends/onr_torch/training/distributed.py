"""Data parallelism under ``torchrun``: one process for each device, with its rows of every batch.

All processes hold the same weights and draw the same random numbers, and each process takes the
numbers of its rows. The gradients are thus those of one process on the whole batch. Batch
normalisation in training mode is the exception: it normalises with the statistics of a process's
own rows, and the running statistics are those of the first process.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import distributed

__all__ = ["RowsOfGenerator", "device_of_process", "rank", "start", "world_size"]


def world_size() -> int:
    """The number of processes that train together; 1 without ``torchrun``.

    Example:
        >>> world_size()
        1

    """
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The rank of this process among those that train together, from 0; 0 without ``torchrun``.

    Example:
        >>> rank()
        0

    """
    return int(os.environ.get("RANK", "0"))


def device_of_process(device: str) -> str:
    """Replace ``cuda`` by the GPU of this process; leave other device names as they are.

    Example:
        >>> device_of_process("cuda"), device_of_process("cpu")
        ('cuda:0', 'cpu')

    """
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device


def start(device: torch.device) -> None:
    """Connect to the other processes, if there are any: by gloo on the CPU, by nccl on CUDA.

    Example:
        >>> start(torch.device("cpu"))

    """
    if world_size() > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)


class RowsOfGenerator(np.random.Generator):
    """A generator that draws for all examples of a batch and returns the rows of this process.

    A draw whose first axis has the length of ``rows`` is made for all ``total`` rows and then cut
    to ``rows``. Any other draw is common to all processes.

    Args:
        generator: the generator that draws, in the same state in every process.
        rows: the indices of the rows of this process.
        total: the number of rows of the whole batch.

    Example:
        >>> rng = RowsOfGenerator(np.random.default_rng(0), np.array([1, 3]), total=4)
        >>> everyone = np.random.default_rng(0).normal(size=(4, 2))
        >>> np.array_equal(rng.normal(size=(2, 2)), everyone[[1, 3]])
        True

    """

    def __init__(self, generator: np.random.Generator, rows: np.ndarray, total: int) -> None:
        super().__init__(generator.bit_generator)
        self.rows, self.total = rows, total
        self.all = generator


SIZE_AT = {
    "beta": 2,
    "binomial": 2,
    "chisquare": 1,
    "choice": 1,
    "dirichlet": 1,
    "exponential": 1,
    "f": 2,
    "gamma": 2,
    "geometric": 1,
    "gumbel": 2,
    "hypergeometric": 3,
    "integers": 2,
    "laplace": 2,
    "logistic": 2,
    "lognormal": 2,
    "logseries": 1,
    "multinomial": 2,
    "multivariate_hypergeometric": 2,
    "multivariate_normal": 2,
    "negative_binomial": 2,
    "noncentral_chisquare": 2,
    "noncentral_f": 3,
    "normal": 2,
    "pareto": 1,
    "poisson": 1,
    "power": 1,
    "random": 0,
    "rayleigh": 1,
    "standard_cauchy": 0,
    "standard_exponential": 0,
    "standard_gamma": 1,
    "standard_normal": 0,
    "standard_t": 1,
    "triangular": 3,
    "uniform": 2,
    "vonmises": 2,
    "wald": 2,
    "weibull": 1,
    "zipf": 1,
}
"""The position of the argument ``size`` in each method of a generator."""


def _of_rows(draw: Callable[..., Any], position: int) -> Callable[..., Any]:
    """The method of :class:`RowsOfGenerator` for a method of the plain generator."""

    def method(self: RowsOfGenerator, *arguments: Any, **options: Any) -> Any:
        given = list(arguments)
        place: Any = given if len(given) > position else options
        key = position if len(given) > position else "size"
        size = options.get("size") if place is options else given[position]
        shape = tuple(size) if isinstance(size, tuple | list) else (size,)
        if shape[:1] != (len(self.rows),):
            return draw(self.all, *arguments, **options)
        place[key] = (self.total, *shape[1:])
        # The plain generator draws, because some distributions call others in turn.
        return draw(self.all, *given, **options)[self.rows]

    return method


for _name, _position in SIZE_AT.items():
    setattr(RowsOfGenerator, _name, _of_rows(getattr(np.random.Generator, _name), _position))
