"""The (p, q) operator norms of the logits' Jacobian, and how closely they are known."""

from __future__ import annotations

import numpy as np

from onr.arrays import to_numpy
from onr.jacobians.operator_norms import operator_norm
from onr.measurements.batches import Inputs, batches
from onr.protocols import Network, Norm
from onr.records import statistics
from onr.typing import Array, Row

__all__ = ["norms"]

BATCH = 50


def norms(network: Network, x: Inputs, y: Array, /, *, p: Norm, q: Norm) -> list[Row]:
    """Both bounds of ``||J||_{p,q}``, which are equal where the norm is exact.

    There are rows of three quantities: ``lower``, ``upper``, and ``bracket``, the lower bound of
    each input divided by its upper bound (1 where both are zero). The column ``least`` is the
    smallest value, and ``kind`` is ``exact``, ``bracket`` or ``lower``. Where no upper bound is
    known (a plugin's norm, or more than 64 outputs) there is only the row ``lower``.

    Args:
        network: the network to measure.
        x: inputs, ``(N, *input_shape)``.
        y: the labels of the inputs, on which the Jacobian does not depend.
        p: the norm of the inputs.
        q: the norm of the logits.

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
    lower, upper, kinds = [], [], set()
    for _, images, _ in batches(x, y, BATCH):
        found = operator_norm(network.linearize(images), p=p, q=q)
        kinds.add(found.kind)
        lower.append(to_numpy(found.lower))
        if found.upper is not None:
            upper.append(to_numpy(found.upper))
    low = np.concatenate(lower)
    quantities = {"lower": low}
    if upper:
        high = np.concatenate(upper)
        bracket = np.where(high > 0, low / np.where(high > 0, high, 1), 1.0)
        quantities |= {"upper": high, "bracket": bracket}
    kind = kinds.pop() if len(kinds) == 1 else "bracket"
    return [
        {"quantity": quantity, "p": p.name, "q": q.name, "kind": kind}
        | statistics(values)
        | {"least": float(values.min())}
        for quantity, values in quantities.items()
    ]
