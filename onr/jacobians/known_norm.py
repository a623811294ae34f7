"""What is known of an operator norm: bounds, a maximiser, and how far they can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from onr.protocols import Array

__all__ = ["OperatorNorm"]


@dataclass(frozen=True)
class OperatorNorm:
    """What is known of ``||J||_{p,q}``, for each example.

    Example:
        >>> from onr.jacobians.operator_norms import operator_norm
        >>> found = operator_norm(np.array([[[3.0, 0.0], [4.0, 1.0]]]), p=3, q=1.5)
        >>> found.kind, bool(found.lower[0] <= found.upper[0])
        ('bracket', True)

    """

    lower: Array
    """``||J v||_q``, shape ``(batch,)``: a lower bound, as ``v`` attains it; the norm if exact."""
    upper: Array | None
    """An upper bound, shape ``(batch,)``; equal to ``lower`` if exact, ``None`` if unknown."""
    kind: str
    """``exact``, ``bracket`` (both bounds are known) or ``lower``; all hold up to rounding."""
    how: str
    """The algorithm, in words."""
    v: Array
    """The maximiser, or the best direction found, ``(batch, *input_shape)``: ``||v||_p = 1``; it
    may be zero where ``J`` is zero.
    """
    u: Array
    """The dual direction of ``J v``, shape ``(batch, d)``: ``||u||_{q*} = 1`` and
    ``<u, J v> = ||J v||_q``; zero where ``J v`` is zero.
    """
    iterations: int
    """Steps of Eq. 12 from each start that was followed to the end; 0 without an iteration."""
    stationary: Array
    """True where the iteration from the best start had come to rest, shape ``(batch,)``.

    It says that more steps would not raise ``lower``. It does not say that ``lower`` is the
    maximum: another start may lead higher. Only ``kind == "exact"`` says that.
    """
    guarantee: Array | None
    """A factor with ``upper <= guarantee * ||J||_{p,q}``, shape ``(batch,)``; 1 if exact.

    For (inf, 2) and (2, 1) it follows from the solution of the relaxation
    (:func:`~onr.jacobians.inf_2_bound.nesterov_factor`), and is at most 1.2546 once that has
    converged; for (inf, 1) it is at most 1.784. ``None`` for other pairs: no factor is known.
    """

    def __repr__(self) -> str:
        """The kind and the bounds; the directions are large."""
        return f"OperatorNorm(kind={self.kind!r}, lower={self.lower}, upper={self.upper})"

    @property
    def value(self) -> Array:
        """``lower``, which is the norm itself if ``kind`` is ``exact``."""
        return self.lower
