"""The method ``dd-snr-warm``: norm regularisation whose iteration continues between visits.

Eq. 12 alternates ``v = duality map of J^T u`` and ``u = gradient of ||.||_q at J v``. Between two
visits of an example the network changes little. One round at each visit, started from the ``u`` of
the last visit, is therefore enough to follow the network. The search costs one vjp. The jvp costs
nothing extra: the objective computes ``f(x + eps v) - f(x)`` anyway, which gives the next ``u``.
"""

from __future__ import annotations

from typing import ClassVar

from onr.arrays import array_namespace, column, like, max_abs
from onr.protocols import Array, Linearization, Norm, NormLike
from onr.text import norm as norm_named
from onr.typing import Kept, Rng
from onr_paper.methods import training_radius
from onr_paper.operator_norm_regularization import OperatorNormRegularization

__all__ = ["WarmStart", "dd_snr_warm"]


class WarmStart:
    """One half round of Eq. 12, started from the vector ``u`` of the example's last visit.

    An example without a last visit, or whose logits did not change then, starts from a Gaussian
    ``u``. As ``u`` has the shape of the logits, a new crop or mirror image of the example can use
    the ``u`` of another.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> from onr.norms import LpNorm
        >>> J, x = Matrices(np.array([[[1.0, 0.0], [0.0, 2.0]]])), np.zeros((1, 2))
        >>> p, rng, u = LpNorm(1), np.random.default_rng(0), np.ones((1, 2))
        >>> WarmStart()(J, x, p=p, q=p, rng=rng, memory=u)
        array([[0., 1.]])

    """

    settings: ClassVar[dict[str, str | float]] = {"search": "warm"}
    remembers = True

    def __call__(
        self, J: Linearization, x: Array, /, *, p: Norm, q: Norm, rng: Rng, memory: Kept
    ) -> Array:
        """The direction ``v``, the duality map of ``J^T u``."""
        xp = array_namespace(x)
        u = like(rng.standard_normal((x.shape[0], *J.output_shape)), x)
        if memory is not None:
            u = xp.where(column(max_abs(memory) > 0, memory), memory, u)
        return p.duality_map(J.vjp(u))


def dd_snr_warm(
    *,
    p: NormLike = 2,
    q: NormLike = 2,
    eps: float | None = None,
    lam: float = 0.1,
    power: float = 2.0,
    form: str = "difference",
) -> OperatorNormRegularization:
    """Build the method ``dd-snr-warm``: ``dd-snr`` at the cost of one attack step.

    Args:
        p: the norm of the domain.
        q: the norm of the co-domain.
        eps: the distance from ``x`` to ``x + eps v``, pixels in [0, 1]. If not given, 12, 0.5 or
            8/255 for p = 1, 2 or inf; other norms have no default.
        lam: the weight ``lam`` of the term ``(lam eps^r / r) ||J||_{p,q}^r``.
        power: the exponent ``r`` of that term: 2 for Eq. 7, 1 for Eq. 13.
        form: ``difference`` or ``jacobian``; ``dd_snr`` describes them.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> dd_snr_warm(eps=0.5).settings["search"]
        'warm'

    """
    norm = norm_named(p)
    radius = training_radius(norm, eps)
    return OperatorNormRegularization(norm, norm_named(q), radius, lam, power, form, WarmStart())
