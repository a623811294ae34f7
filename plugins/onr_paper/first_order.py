"""``input-gradient`` and ``frobenius``: the foils of sections 7.2 and 7.3.

Both pay for one image ``J v``: along the loss's own gradient, and along a random direction.
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
    """``l(y, f(x)) + lam eps^2 / 2 ||grad_x l(y, f(x))||_{p*}^2``, with cross-entropy ``l``.

    ``||J^T g||_{p*} = <g, J v>`` with ``g`` the gradient in the logits and ``v`` the duality map of
    ``J^T g``; with ``v`` held constant (Danskin) the gradient is exact and needs no derivative of a
    derivative. It is one half round of Eq. 12 from ``u = g`` (section 7.2).

    Args:
        p: the norm of perturbations; the gradient is measured in its dual.
        eps: their radius, pixels in [0, 1]; by default the field's usual one for the norm.
        lam: the weight.

    Raises:
        OnrError: an argument out of its range.

    """

    def __init__(self, *, p: NormLike = 2, eps: float | None = None, lam: float = 1.0) -> None:
        self.p: Norm = norm_named(p)
        self.eps, self.lam = training_radius(self.p, eps), require_weight("lam", lam)

    @property
    def settings(self) -> dict[str, str | float]:
        """All arguments."""
        return {"p": self.p.name, "eps": self.eps, "lam": self.lam}

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Look along the gradient of the loss."""
        at = network.linearize(x)
        # Its scale does not matter to the duality map, and this one does not underflow.
        g = CROSS_ENTROPY.direction(at.value, labels=y)
        return Probe(direction=self.p.duality_map(at.vjp(g)))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients; that of ``<g, J v>`` in the logits is the Hessian's image."""
        clean, tangent = outputs.clean, outputs.tangent
        g = CROSS_ENTROPY.gradient(clean, labels=y)
        softmax = g + one_hot(y, clean)
        slope = inner(g, tangent)
        image = softmax * (tangent - inner(softmax, tangent)[:, None])
        factor = (self.lam * self.eps**2 * slope)[:, None]
        return with_clean(
            clean,
            y,
            self.lam / 2 * (self.eps * slope) ** 2,
            clean_gradient=factor * image,
            tangent=factor * g,
        )


class FrobeniusNorm:
    """``l(y, f(x)) + lam eps^2 / 2 ||J||_F^2``, by one random direction a step.

    ``||J v||^2`` with independent signs ``v`` has the expectation ``||J||_F^2``.

    Args:
        eps: a radius, pixels in [0, 1], by which ``lam`` compares with that of ``dd-snr``.
        lam: the weight.

    Raises:
        OnrError: an argument out of its range.

    """

    def __init__(self, *, eps: float | None = None, lam: float = 0.1) -> None:
        self.eps, self.lam = training_radius(LpNorm(2), eps), require_weight("lam", lam)

    @property
    def settings(self) -> dict[str, str | float]:
        """All arguments."""
        return {"eps": self.eps, "lam": self.lam}

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Look along random signs."""
        return Probe(direction=like(rng.integers(0, 2, tuple(x.shape)) * 2 - 1, x))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients."""
        tangent, factor = outputs.tangent, self.lam * self.eps**2
        paid = factor / 2 * inner(tangent, tangent)
        return with_clean(outputs.clean, y, paid, tangent=factor * tangent)
