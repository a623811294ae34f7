"""The (p, q) operator norms of the logits' Jacobian, and how closely they are known."""

from __future__ import annotations

import numpy as np

from onr.experiments import Row, Subject, statistics
from onr.jacobians.operator_norms import operator_norm
from onr.registry import norm as norm_named

__all__ = ["norms"]

BATCH = 50


def norms(subject: Subject, *, p: str, q: str, images: int) -> list[Row]:
    """Both bounds of ``||J||_{p,q}``, equal where the norm is exact.

    Rows of three quantities: ``lower``, ``upper``, and the ``bracket`` of each image, the lower
    bound over the upper one (1 where both are zero); of each the ``least`` too. The first alone
    where no upper bound is known: norms of plugins, more than 64 outputs.

    Args:
        subject: the model.
        p: the norm of the inputs.
        q: the norm of the logits.
        images: of the test part, its first ones.

    """
    lower, upper, kinds = [], [], set()
    for x, _ in subject.batches(images, BATCH):
        found = operator_norm(subject.network.linearize(x), p=norm_named(p), q=norm_named(q))
        kinds.add(found.kind)
        lower.append(subject.backend.to_numpy(found.lower))
        if found.upper is not None:
            upper.append(subject.backend.to_numpy(found.upper))
    low = np.concatenate(lower)
    quantities = {"lower": low}
    if upper:
        high = np.concatenate(upper)
        bracket = np.where(high > 0, low / np.where(high > 0, high, 1), 1.0)
        quantities |= {"upper": high, "bracket": bracket}
    kind = kinds.pop() if len(kinds) == 1 else "bracket"
    return [
        {"quantity": quantity, "p": p, "q": q, "kind": kind}
        | statistics(values)
        | {"least": float(values.min())}
        for quantity, values in quantities.items()
    ]
