"""The method ``dd-snr-warm``: norm regularisation whose iteration continues between visits.

:class:`~onr.regularizers.searches.WarmStart` describes the search.
"""

from __future__ import annotations

from onr.protocols import NormLike
from onr.regularizers.searches import WarmStart
from onr_paper.operator_norm_regularization import OperatorNormRegularization, regularization

__all__ = ["dd_snr_warm"]


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
    return regularization(WarmStart(), p=p, q=q, eps=eps, lam=lam, power=power, form=form)
