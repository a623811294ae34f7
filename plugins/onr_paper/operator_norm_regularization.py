"""The methods ``dd-snr``, ``dd-onr`` and ``dd-onr-exact``: norm regularisation (Eqs. 7, 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from onr.arrays import like
from onr.errors import OnrError
from onr.jacobians.iterations import walk
from onr.jacobians.operator_norms import operator_norm
from onr.losses import logit_change
from onr.norms import LpNorm
from onr.protocols import Array, Cost, Linearization, Network, Norm, NormLike, Outputs, Probe
from onr.text import norm as norm_named
from onr.typing import Kept, Rng
from onr_paper.methods import require_weight, training_radius, with_clean

__all__ = ["Exact", "Iteration", "OperatorNormRegularization", "dd_onr", "dd_onr_exact", "dd_snr"]


class Search(Protocol):
    """A search for the direction ``v`` of largest gain ``||J v||_q``."""

    @property
    def settings(self) -> dict[str, str | float]:
        """The settings of the search, for a run's record."""

    @property
    def remembers(self) -> bool:
        """Whether ``memory`` is needed: the gradient of ``||.||_q`` at the last visit."""

    def __call__(
        self, J: Linearization, x: Array, /, *, p: Norm, q: Norm, rng: Rng, memory: Kept
    ) -> Array:
        """Find a direction ``v`` with ``||v||_p = 1``.

        Args:
            J: the linearisation at ``x``.
            x: the inputs.
            p: the norm of the domain.
            q: the norm of the co-domain.
            rng: draws random starts.
            memory: what the objective kept at the last visit of these examples, ``(batch, d)``,
                with a row of zeros for a new example; ``None`` if nothing was kept.

        Returns:
            The directions, shaped as ``x``.

        """


@dataclass(frozen=True)
class Iteration:
    """The iteration of Eq. 11, or of Eq. 12 for ``alpha = inf``, from a Gaussian start.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> Iteration(steps=10, alpha=math.inf).settings
        {'steps': 10, 'alpha': inf}

    """

    steps: int
    alpha: float
    remembers = False

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise OnrError(f"alpha = {self.alpha:g}: expected a positive number, or inf")
        if self.steps < 1:
            raise OnrError(f"steps = {self.steps}: expected at least 1")

    @property
    def settings(self) -> dict[str, str | float]:
        """The number of steps and the step size."""
        return {"steps": self.steps, "alpha": self.alpha}

    def __call__(
        self, J: Linearization, x: Array, /, *, p: Norm, q: Norm, rng: Rng, memory: Kept
    ) -> Array:
        """The last iterate of the iteration."""
        start = like(rng.standard_normal(tuple(x.shape)), x)
        return walk(J, start, p=p, q=q, alpha=self.alpha, steps=self.steps).v


class Exact:
    """The exact maximiser, from the whole Jacobian, which costs ``d`` vjps.

    Example:
        >>> from onr.jacobians.dense import Matrices
        >>> J, x = Matrices(np.array([[[1.0, 0.0], [0.0, 2.0]]])), np.zeros((1, 2))
        >>> rng = np.random.default_rng(0)
        >>> Exact()(J, x, p=LpNorm(1), q=LpNorm(2), rng=rng, memory=None)
        array([[0., 1.]])

    """

    settings: ClassVar[dict[str, str | float]] = {"search": "exact"}
    remembers = False

    def __call__(
        self, J: Linearization, x: Array, /, *, p: Norm, q: Norm, rng: Rng, memory: Kept
    ) -> Array:
        """The direction that attains the norm.

        Raises:
            OnrError: no exact algorithm is known for these norms and this number of classes.

        """
        found = operator_norm(J, p=p, q=q, rng=rng)
        if found.kind != "exact":
            raise OnrError(
                f"the ({p.name}, {q.name}) norm with {J.output_shape[0]} classes has no exact "
                "algorithm: choose p = 1, q = inf, p = q = 2, or q = 1 with at most 16 "
                "classes; or dd-onr, which estimates it"
            )
        return found.v


@dataclass(frozen=True)
class OperatorNormRegularization:
    """The cost ``l(y, f(x)) + (lam eps^r / r) ||J||_{p,q}^r`` with ``r = power`` (Eqs. 7, 13).

    The direction ``v`` that attains the norm is held constant: by Danskin's theorem the gradient of
    the norm is that of ``||J v||_q``. With ``form = difference`` the second term is
    ``(lam / r) ||f(x + eps v) - f(x)||_q^r``. Both forms are equal where the network is linear
    (Eq. 1), and in both ``lam eps^r`` is the weight ``lam~`` of Eqs. 7 and 13.

    ``x + eps v`` is not clipped to the box of valid inputs: the cost regularises the Jacobian,
    which does not depend on the box.

    Raises:
        OnrError: a field is out of range.

    Example:
        >>> norm, search = LpNorm(2), Iteration(10, math.inf)
        >>> method = OperatorNormRegularization(norm, norm, 0.5, 0.1, 2, "jacobian", search)
        >>> method.settings["form"], method.settings["steps"]
        ('jacobian', 10)

    """

    p: Norm
    q: Norm
    eps: float
    lam: float
    power: float
    form: str
    search: Search

    def __post_init__(self) -> None:
        if self.form not in ("difference", "jacobian"):
            raise OnrError(f"form = {self.form!r}: expected difference or jacobian")
        if not 1 <= self.power < math.inf:
            raise OnrError(f"power = {self.power:g}: expected a finite number >= 1")
        require_weight("lam", self.lam)

    @property
    def settings(self) -> dict[str, str | float]:
        """All fields, with norms by name, and the settings of the search."""
        return {
            "p": self.p.name,
            "q": self.q.name,
            "eps": self.eps,
            "lam": self.lam,
            "power": self.power,
            "form": self.form,
            **self.search.settings,
        }

    def perturb(self, network: Network, x: Array, y: Array, /, *, rng: Rng, memory: Kept) -> Probe:
        """Ask for the clean logits, and for ``J v`` or the logits at ``x + eps v``."""
        here = network.linearize(x)
        v = self.search(here, x, p=self.p, q=self.q, rng=rng, memory=memory)
        if self.form == "jacobian":
            return Probe(direction=v)
        return Probe(perturbed=(x + self.eps * v,))

    def objective(self, outputs: Outputs, y: Array, /) -> Cost:
        """The cost and its gradients in the clean logits and in ``J v`` or the perturbed logits."""
        jacobian = self.form == "jacobian"
        change = (
            self.eps * outputs.tangent
            if jacobian
            else logit_change(outputs.perturbed[0], outputs.clean)
        )
        size, u = self.q(change), self.q.gradient(change)
        paid = self.lam / self.power * size**self.power
        gradient = (self.lam * size ** (self.power - 1))[:, None] * u
        memory = u if self.search.remembers else None
        if jacobian:
            return with_clean(outputs.clean, y, paid, tangent=self.eps * gradient, memory=memory)
        return with_clean(
            outputs.clean,
            y,
            paid,
            clean_gradient=-gradient,
            perturbed=(gradient,),
            memory=memory,
        )


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
    norm = LpNorm(2)
    radius = training_radius(norm, eps)
    return OperatorNormRegularization(norm, norm, radius, lam, 2, form, Iteration(steps, math.inf))


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
    norm = norm_named(p)
    radius = training_radius(norm, eps)
    return OperatorNormRegularization(
        norm, norm_named(q), radius, lam, power, form, Iteration(steps, alpha)
    )


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
    norm = norm_named(p)
    radius = training_radius(norm, eps)
    return OperatorNormRegularization(norm, norm_named(q), radius, lam, power, form, Exact())
