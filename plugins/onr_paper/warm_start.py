"""The method ``dd-snr-warm``: norm regularisation whose iteration continues between visits."""

from __future__ import annotations

from onr.protocols import NormLike
from onr.regularizers.warm_start import WarmStart, usual_noise
from onr.text import norm as norm_named
from onr_paper.operator_norm_regularization import OperatorNormRegularization, regularization

__all__ = ["dd_snr_warm"]


def dd_snr_warm(
    *,
    p: NormLike = 2,
    q: NormLike = 2,
    eps: float | None = None,
    lam: float = 0.2,
    power: float = 2.0,
    form: str = "difference",
    far: float | None = None,
    noise: float | None = None,
    share: float = 0.5,
) -> OperatorNormRegularization:
    """Build the method ``dd-snr-warm``: ``dd-snr`` for one vjp a step, which stays up.

    It pays ``(1 - far) l(y, f(x)) + far l(y, f(x*)) + (lam / r) ||f(x*) - f(x)||_q^r``, where
    ``x* = x + noise + eps v``. :class:`~onr.regularizers.warm_start.WarmStart` says how ``v`` is
    found, what is remembered of an example, and why the method stays up where one-step adversarial
    training collapses. With ``far = noise = share = 0`` it is the paper's Eq. 7, half a round of
    the power method a visit.

    A step takes a forward and a backward pass at one input, and one of training at two.

    Args:
        p: the norm of the domain.
        q: the norm of the co-domain.
        eps: the length of the step along ``v``, pixels in [0, 1]. If not given, 12, 0.5 or 8/255
            for p = 1, 2 or inf; other norms have no default.
        lam: the weight ``lam`` of the term ``(lam eps^r / r) ||J||_{p,q}^r``.
        power: the exponent ``r`` of that term: 2 for Eq. 7, 1 for Eq. 13.
        form: ``difference`` or ``jacobian``; ``dd_snr`` describes them.
        far: the share of the cross-entropy that is paid at ``x*``; if not given, 0.5, and 0 with
            ``form = jacobian``, which does not compute ``f(x*)``.
        noise: the radius of the noise, in eps; if not given, 2 for p = inf, and 1 for other norms.
        share: the probability that the loss leads an example, and not its memory.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> dd_snr_warm(eps=0.5).settings["search"]
        'warm'

    """
    search = WarmStart(usual_noise(norm_named(p)) if noise is None else noise, share)
    if far is None:
        far = 0.0 if form == "jacobian" else 0.5
    return regularization(search, p=p, q=q, eps=eps, lam=lam, power=power, form=form, far=far)
