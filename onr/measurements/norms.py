"""The (p, q) operator norms of the logits' Jacobian, and how closely they are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onr.jacobians.operator_norms import operator_norm
from onr.measurements.batches import Inputs, Parts, Values
from onr.protocols import Network, Norm
from onr.records import statistics
from onr.typing import Array, Row

__all__ = ["norms"]

BATCH, ENTRIES = 50, 2**20
"""A batch has at most ``BATCH`` inputs, and ``ENTRIES`` numbers: 6 images of 3 x 224 x 224."""


def norms(
    network: Network,
    x: Inputs,
    y: Array,
    /,
    *,
    p: Norm,
    q: Norm,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    parts: Parts | None = None,
) -> list[Row]:
    """Both bounds of ``||J||_{p,q}``, which are equal where the norm is exact.

    There are rows of three quantities: ``lower``, ``upper``, and ``bracket``, the lower bound of
    each input divided by its upper bound (1 where both are zero). The column ``least`` is the
    smallest value, and ``kind`` is ``exact``, ``bracket`` or ``lower``. Where no upper bound is
    known (a plugin's norm, or more than 64 outputs and no exact algorithm) there is only the row
    ``lower``.

    Args:
        network: the network to measure.
        x: inputs, ``(N, *input_shape)``.
        y: the labels of the inputs, on which the Jacobian does not depend.
        p: the norm of the inputs.
        q: the norm of the logits.
        on_progress: called where the Jacobian has more than 64 outputs and is not stored, with the
            number of passes through the network so far and in all, each counted once for each
            input of its batch.
        parts: keeps the values of each batch, so that the measurement can go on from there.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> rows = norms(network, x, y, p=LpNorm(2), q=LpNorm(1))
        >>> [(row["quantity"], row["kind"]) for row in rows]
        [('lower', 'exact'), ('upper', 'exact'), ('bracket', 'exact')]

    """
    collected = Values[str](parts)
    size = max(1, min(BATCH, ENTRIES // math.prod(network.input_shape)))
    for index, images, _ in collected.batches(x, y, size):

        def passed(
            done: int, total: int, before: int = index * size, count: int = len(images)
        ) -> None:
            on_progress(before * total + done * count, len(x) * total)

        found = operator_norm(network.linearize(images), p=p, q=q, on_progress=passed)
        collected.add("kind", np.full(len(images), found.kind))
        collected.add("lower", found.lower)
        if found.upper is not None:
            collected.add("upper", found.upper)
    values = dict(collected.items())
    kinds = set(values.pop("kind").tolist())
    quantities = dict(values)
    if "upper" in values:
        low, high = values["lower"], values["upper"]
        quantities["bracket"] = np.where(high > 0, low / np.where(high > 0, high, 1), 1.0)
    kind = kinds.pop() if len(kinds) == 1 else "bracket"
    return [
        {"quantity": quantity, "p": p.name, "q": q.name, "kind": kind}
        | statistics(each)
        | {"least": float(each.min())}
        for quantity, each in quantities.items()
    ]
