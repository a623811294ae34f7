"""The methods ``dd-snr``, ``dd-onr`` and ``dd-onr-exact``: norm regularisation (Eqs. 7, 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onr.errors import OnrError
from onr.losses import logit_change
from onr.protocols import Array, Cost, Network, NormLike, Outputs, Probe
from onr.regularizers.operator_norm_term import OperatorNormTerm
from onr.regularizers.searches import Exact, Iteration, Search
from onr.text import norm as norm_named
from onr.typing import Kept, Rng
from onr_paper.methods import CROSS_ENTROPY, require_weight, training_radius, with_clean

__all__ = ["OperatorNormRegularization", "dd_onr", "dd_onr_exact", "dd_snr", "regularization"]


@dataclass(frozen=True)
class OperatorNormRegularization:
    """The cost ``l(y, f(x)) + lam term``, where the term is that of Eqs. 7 and 13.

    :class:`~onr.regularizers.operator_norm_term.OperatorNormTerm` describes the term. With
    ``far > 0`` a share of the cross-entropy is paid at ``x*``, the input whose change the term
    pays: ``(1 - far) l(y, f(x)) + far l(y, f(x*)) + lam term``.

    Raises:
        OnrError: ``lam`` or ``far`` is out of range.

    Example:
        >>> from onr.norms import LpNorm
        >>> norm = LpNorm(2)
        >>> term = OperatorNormTerm(norm, norm, 0.5, 2, "jacobian", Iteration(10))
        >>> method = OperatorNormRegularization(term, 0.1)
        >>> method.settings["form"], method.settings["steps"]
        ('jacobian', 10)

    """

    term: OperatorNormTerm
    lam: float
    far: float = 0.0

    def __post_init__(self) -> None:
        require_weight("lam", self.lam)
        if not 0 <= self.far <= 1:
            raise OnrError(f"far = {self.far:g}: expected a number in [0, 1]")
        if self.far > 0 and self.term.form == "jacobian":
            raise OnrError(
                "form = jacobian looks at no far point: give far = 0, or form = difference"
            )

    @property
    def settings(self) -> dict[str, str | float]:
        """All fields, with norms by name, and the settings of the search."""
        term = self.term
        return {
            "p": term.p.name,
            "q": term.q.name,
            "eps": term.eps,
            "lam": self.lam,
            "power": term.power,
            "form": term.form,
            **term.search.settings,
        } | ({"far": self.far} if self.far > 0 else {})

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the clean logits, and for ``J v`` or the logits at ``x + eps v``."""
        found = self.term.direction(network, x, labels=y, rng=rng, memory=memory)
        if self.term.form == "jacobian":
            return Probe(direction=found.v)
        return Probe(perturbed=(found.moved(self.term.eps),))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients in the clean logits and in ``J v`` or the perturbed logits."""
        term, jacobian = self.term, self.term.form == "jacobian"
        change = (
            term.eps * outputs.tangent
            if jacobian
            else logit_change(outputs.perturbed[0], outputs.clean)
        )
        paid = term.paid(change)
        value, gradient = self.lam * paid.value, self.lam * paid.gradient
        memory = paid.u if term.search.remembers else None
        if jacobian:
            return with_clean(outputs.clean, y, value, tangent=term.eps * gradient, memory=memory)
        there = gradient
        if self.far > 0:
            (moved,) = outputs.perturbed
            value = value + self.far * CROSS_ENTROPY.value(moved, labels=y)
            there = there + self.far * CROSS_ENTROPY.gradient(moved, labels=y)
        return with_clean(
            outputs.clean,
            y,
            value,
            weight=1 - self.far,
            clean_gradient=-gradient,
            perturbed=(there,),
            memory=memory,
        )


def regularization(
    search: Search,
    *,
    p: NormLike,
    q: NormLike,
    eps: float | None,
    lam: float,
    power: float,
    form: str,
    far: float = 0.0,
) -> OperatorNormRegularization:
    """Build the method with this search from norms by name and a radius with its usual value.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> options = {"eps": None, "lam": 0.1, "power": 1.0, "form": "difference"}
        >>> regularization(Exact(), p=2, q=1, **options).term.eps
        0.5

    """
    norm = norm_named(p)
    radius = training_radius(norm, eps)
    term = OperatorNormTerm(norm, norm_named(q), radius, power, form, search)
    return OperatorNormRegularization(term, lam, far)


def dd_snr(
    *,
    eps: float | None = None,
    lam: float = 0.1,
    steps: int = 10,
    form: str = "difference",
) -> OperatorNormRegularization:
    """Build the method ``dd-snr``: data-dependent spectral norm regularisation (Eq. 7, sec. 4.1).

    Args:
        eps: the distance from ``x`` to ``x + eps v``, pixels in [0, 1]; 0.5 if not given. The
            weight ``lam~`` of Eq. 7 is ``lam eps^2``.
        lam: the weight of the squared norm in the sum-of-squares form.
        steps: the number of power iterations (Eq. 6).
        form: ``difference``, the squared change of the logits from ``x`` to ``x + eps v``; or
            ``jacobian``, the squared singular value.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> dd_snr(eps=0.5, lam=0.3).settings["power"]
        2

    """
    search = Iteration(steps)
    return regularization(search, p=2, q=2, eps=eps, lam=lam, power=2, form=form)


def dd_onr(
    *,
    p: NormLike = 2,
    q: NormLike = 2,
    eps: float | None = None,
    lam: float = 0.1,
    power: float = 1.0,
    steps: int = 10,
    alpha: float = math.inf,
    form: str = "difference",
) -> OperatorNormRegularization:
    """Build the method ``dd-onr``: data-dependent (p, q) operator norm regularisation (Eq. 13).

    Args:
        p: the norm of the domain.
        q: the norm of the co-domain.
        eps: the distance from ``x`` to ``x + eps v``, pixels in [0, 1]. If not given, 12, 0.5 or
            8/255 for p = 1, 2 or inf; other norms have no default. The weight ``lam~`` of Eq. 13
            is ``lam eps^power``.
        lam: the weight of Eq. 112.
        power: the exponent ``r`` of the term ``||J||^r / r``.
        steps: the number of norm iterations.
        alpha: the step size of the norm iterations: ``inf`` for Eq. 12, finite for Eq. 11.
        form: ``difference`` or ``jacobian`` (:func:`dd_snr` describes them).

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> dd_onr(p="inf", q=1, eps=0.1).settings["q"]
        '1'

    """
    search = Iteration(steps, alpha)
    return regularization(search, p=p, q=q, eps=eps, lam=lam, power=power, form=form)


def dd_onr_exact(
    *,
    p: NormLike = 2,
    q: NormLike = 2,
    eps: float | None = None,
    lam: float = 0.1,
    power: float = 1.0,
    form: str = "difference",
) -> OperatorNormRegularization:
    """Build the method ``dd-onr-exact``: ``dd-onr`` with the exact maximiser, not an estimate.

    The whole Jacobian costs one vjp for each class. With ten classes that is half the cost of ten
    iterations.

    Args:
        p: the norm of the domain.
        q: the norm of the co-domain. The pairs with p = 1, with q = inf, with q = 1 (up to 16
            classes) and p = q = 2 are exact; training raises an error for all others.
        eps: the distance from ``x`` to ``x + eps v`` (:func:`dd_onr` describes it).
        lam: the weight of Eq. 112.
        power: the exponent ``r`` of the term ``||J||^r / r``.
        form: ``difference`` or ``jacobian`` (:func:`dd_snr` describes them).

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> dd_onr_exact(p="inf", q=1, eps=0.1).settings["search"]
        'exact'

    """
    return regularization(Exact(), p=p, q=q, eps=eps, lam=lam, power=power, form=form)
