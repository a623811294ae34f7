"""``dd-snr-warm``: operator-norm regularisation whose iteration runs along with training.

Eq. 12 alternates ``v = duality map of J^T u`` and ``u = gradient of ||J v||_q``. Between two visits
of an example the network changes little, so that one round a visit, continued from the last, keeps
up with it. The vjp is the step's only extra pass: ``f(x + eps v) - f(x)``, which the objective
computes anyway, gives the next ``u``.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from onr.arrays import array_namespace, column, like, max_abs
from onr.protocols import Array, Linearization, Norm, NormLike
from onr.text import norm as norm_named
from onr_paper.methods import training_radius
from onr_paper.operator_norm import OperatorNormRegularization

__all__ = ["WarmStart", "dd_snr_warm"]


class WarmStart:
    """One half round of Eq. 12 from the left vector that the example's last visit ended with.

    An example that was never seen, or whose logits did not move, starts from a Gaussian one. The
    left vector lives in the space of the logits, so that a crop or a mirror image may use that of
    another.
    """

    settings: ClassVar[dict[str, str | float]] = {"search": "warm"}
    remembers = True

    def __call__(
        self,
        at: Linearization,
        x: Array,
        /,
        *,
        p: Norm,
        q: Norm,
        rng: np.random.Generator,
        memory: Array | None,
    ) -> Array:
        """The duality map of ``J^T u``."""
        xp = array_namespace(x)
        u = like(rng.standard_normal((x.shape[0], *at.output_shape)), x)
        if memory is not None:
            u = xp.where(column(max_abs(memory) > 0, memory), memory, u)
        return p.duality_map(at.vjp(u))


def dd_snr_warm(
    *,
    p: NormLike = 2,
    q: NormLike = 2,
    eps: float | None = None,
    lam: float = 0.1,
    power: float = 2.0,
    form: str = "difference",
) -> OperatorNormRegularization:
    """``dd-snr-warm``: as ``dd-snr``, for the price of one attack step.

    Args:
        p: the norm of the domain.
        q: the norm of the co-domain.
        eps: the distance of the difference, pixels in [0, 1].
        lam: the weight; ``lam eps^power / power`` times the norm to this power is paid.
        power: 2 for Eq. 7, 1 for Eq. 13.
        form: ``difference`` or ``jacobian``, as for ``dd-snr``.

    """
    norm = norm_named(p)
    radius = training_radius(norm, eps)
    return OperatorNormRegularization(norm, norm_named(q), radius, lam, power, form, WarmStart())
