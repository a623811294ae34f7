"""The methods ``input-gradient`` (section 7.2) and ``frobenius`` (section 7.3), for comparison.

Both penalise ``J v`` for a single direction ``v``, in evaluation mode. The direction of
``input-gradient`` follows from the gradient of the loss; that of ``frobenius`` is random.
"""

from __future__ import annotations

from onr.arrays import inner, like
from onr.losses import one_hot
from onr.norms import LpNorm
from onr.protocols import Array, Cost, Network, Norm, NormLike, Outputs, Probe
from onr.text import norm as norm_named
from onr.typing import Kept, Rng
from onr_paper.methods import CROSS_ENTROPY, require_weight, training_radius, with_clean

__all__ = ["FrobeniusNorm", "InputGradient"]


class InputGradient:
    """The cost ``l(y, f(x)) + lam eps^2 / 2 ||grad_x l(y, f(x))||_{p*}^2``; ``l`` is cross-entropy.

    ``||J^T g||_{p*} = <g, J v>``, where ``g`` is the gradient of ``l`` in the logits and ``v`` the
    duality map of ``J^T g``. By Danskin's theorem ``v`` can be held constant: the gradient of the
    cost is exact and needs no second derivative of the network. Finding ``v`` is one half round of
    Eq. 12 from ``u = g`` (section 7.2).

    The second term is that of evaluation mode in all its parts, ``g`` and ``J v`` alike: an example
    has no gradient of its own where batch normalisation uses the statistics of the batch. The
    cross-entropy in the first term is that of training mode.

    Args:
        p: the norm of perturbations; the gradient is measured in the dual norm.
        eps: the radius of perturbations, pixels in [0, 1]. If not given, 12, 0.5 or 8/255 for
            p = 1, 2 or inf; other norms have no default.
        lam: the weight.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> InputGradient(p="inf", lam=2).settings["lam"]
        2

    """

    def __init__(self, *, p: NormLike = 2, eps: float | None = None, lam: float = 1.0) -> None:
        self.p: Norm = norm_named(p)
        self.eps, self.lam = training_radius(self.p, eps), require_weight("lam", lam)

    @property
    def settings(self) -> dict[str, str | float]:
        """The arguments, with the norm by name."""
        return {"p": self.p.name, "eps": self.eps, "lam": self.lam}

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for ``f(x)``, and for ``J v`` along the duality map of the gradient of the loss."""
        here = network.linearize(x, jvp=False)
        # The duality map ignores the scale of g, and unlike the gradient this g never underflows.
        g = CROSS_ENTROPY.direction(here.value, labels=y)
        return Probe(direction=self.p.duality_map(here.vjp(g)), evaluated=True)

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients.

        The gradient of ``<g, J v>`` in the logits is ``H J v`` with the Hessian ``H`` of ``l``.
        """
        logits, tangent = outputs.evaluated, outputs.tangent
        g = CROSS_ENTROPY.gradient(logits, labels=y)
        softmax = g + one_hot(y, logits)
        slope = inner(g, tangent)
        image = softmax * (tangent - inner(softmax, tangent)[:, None])
        factor = (self.lam * self.eps**2 * slope)[:, None]
        return with_clean(
            outputs.clean,
            y,
            self.lam / 2 * (self.eps * slope) ** 2,
            tangent=factor * g,
            evaluated=factor * image,
        )


class FrobeniusNorm:
    """The cost ``l(y, f(x)) + lam eps^2 / 2 ||J||_F^2``, with a random estimate of the norm.

    Each step draws one direction ``v``. Its entries are independent random signs, so that the
    expectation of ``||J v||_2^2`` is ``||J||_F^2``.

    Args:
        eps: a radius, pixels in [0, 1]. The weight is ``lam eps^2``, so that ``lam`` is comparable
            with ``lam`` of ``dd-snr``.
        lam: the weight.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> FrobeniusNorm(eps=0.5).settings
        {'eps': 0.5, 'lam': 0.1}

    """

    def __init__(self, *, eps: float | None = None, lam: float = 0.1) -> None:
        self.eps, self.lam = training_radius(LpNorm(2), eps), require_weight("lam", lam)

    @property
    def settings(self) -> dict[str, str | float]:
        """The arguments ``eps`` and ``lam``."""
        return {"eps": self.eps, "lam": self.lam}

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for ``J v`` along random signs ``v``."""
        return Probe(direction=like(rng.integers(0, 2, tuple(x.shape)) * 2 - 1, x))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients."""
        tangent, factor = outputs.tangent, self.lam * self.eps**2
        paid = factor / 2 * inner(tangent, tangent)
        return with_clean(outputs.clean, y, paid, tangent=factor * tangent)
