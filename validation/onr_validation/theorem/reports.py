"""The joint verdict on all draws of one pair (p, q)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from onr_validation.theorem.check_theorem import MEASURED_TOLERANCE, DrawCheck
from onr_validation.theorem.propagation import PROVEN

__all__ = ["PairReport", "json_number"]


LEAST_GENERIC = 0.75
"""The least share of generic draws for a verdict on them. Of 400 random draws for (inf, 1), seed 0,
all are generic with layers 12,12, 98 % with one layer of 6 units, and 50 % with a single unit."""


@dataclass(frozen=True)
class PairReport:
    """All draws of one pair (p, q), and the verdict on them.

    Example:
        >>> from onr_validation.theorem.draws import REPAIRED, check_counterexample
        >>> check = check_counterexample(REPAIRED, iterations=2)
        >>> report = PairReport(check.p, check.q, check.alpha, (check,))
        >>> report.holds, report.proven  # p = 3 is outside the theorem
        (True, False)

    """

    p: str
    q: str
    alpha: float
    checks: tuple[DrawCheck, ...]
    least_generic: float = LEAST_GENERIC
    """The share of generic draws that a verdict needs."""

    def all(self, name: str) -> np.ndarray:
        """The values of an attribute of the checks, joined over all draws."""
        return np.concatenate([getattr(check, name) for check in self.checks])

    @property
    def exact(self) -> bool:
        """Whether the arithmetic was exact, that is, nothing was rounded."""
        return self.checks[0].arithmetic != "float"

    @property
    def proven(self) -> bool:
        """Whether a theorem covers all of these draws."""
        return all(check.proven for check in self.checks)

    @property
    def causes(self) -> list[str]:
        """The first hypothesis that each draw violates; empty for a generic draw."""
        return [cause for check in self.checks for cause in check.cause]

    @property
    def generic(self) -> np.ndarray:
        """Whether each draw satisfies all hypotheses."""
        return np.array([not cause for cause in self.causes])

    @property
    def failures(self) -> list[str]:
        """What contradicts the theorem: a line for each draw that does."""
        return [reason for check in self.checks for reason in check.failure if reason]

    @property
    def parted(self) -> int:
        """The number of degenerate draws whose two sequences differ."""
        return int(np.sum(self.all("deviation")[~self.generic] > 0))

    @property
    def holds(self) -> bool:
        """Whether enough draws are generic and no draw contradicts the theorem."""
        return self._enough and not self.failures

    @property
    def _enough(self) -> bool:
        return bool(self.generic.any() and self.generic.mean() >= self.least_generic)

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if not self.failures and not self._enough:
            cause = next(cause for cause in self.causes if cause)
            return (
                f"too little to judge: {self.generic.sum()} of {len(self.generic)} draws are "
                f"generic, a share of {self.least_generic} is needed ({cause})"
            )
        if self.proven:
            return self._verdict()
        same = "the sequences agree here" if self.holds else "the sequences differ"
        if self.checks[0].raw_gradient and self.alpha == math.inf:
            return f"the limit of raw gradients is Eq. 12 for every p: {same}"
        if not (self.p in PROVEN and self.q in PROVEN):
            reason = "it is stated for 1, 2, inf"
        elif self.alpha < math.inf:
            reason = f"it needs alpha >= 2 eps for p = {self.p}"
        else:
            reason = "eps reaches beyond the cell"
        return f"the theorem does not speak here, {reason}: {same}"

    def _verdict(self) -> str:
        if not self.holds:
            return f"VIOLATED in {len(self.failures)} draws ({self.failures[0]})"
        if self.p == "2" and self.alpha < math.inf:
            how = ": certified" if self.exact else ""
            return f"gap to the limit within sqrt(2) ||x_(k-1) - x|| / alpha{how}"
        if not self.exact:
            return "holds"
        degenerate = len(self.generic) - int(self.generic.sum())
        if not degenerate:
            return "holds exactly"
        return f"holds exactly; {self.parted} of {degenerate} degenerate part"

    def summary(self) -> dict[str, Any]:
        """The report as JSON. ``deviation`` and ``bound`` are taken over generic draws."""
        generic = self.generic
        deviation = self.all("deviation")
        bound, radius = self.all("bound")[generic], self.all("radius")
        return {
            "p": self.p,
            "q": self.q,
            "alpha": json_number(self.alpha),
            "arithmetic": self.checks[0].arithmetic,
            "proven": self.proven,
            "holds": self.holds,
            "verdict": self.verdict,
            "draws": len(generic),
            "generic": int(generic.sum()),
            "degenerate": [cause for cause in self.causes if cause],
            "degenerate_parted": self.parted,
            "failures": self.failures,
            "deviation": _spread(deviation[generic]),
            "deviation_degenerate": _spread(deviation[~generic]),
            "bound": _spread(bound) if self.proven or self.exact else MEASURED_TOLERANCE,
            "cell_radius": _spread(radius),
        }


def json_number(value: float) -> float | str | None:
    """The number if it is finite; ``inf``, ``-inf`` or nothing for NaN, which JSON does not have.

    Example:
        >>> json_number(math.inf), json_number(2.0), json_number(math.nan)
        ('inf', 2.0, None)

    """
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else f"{value:g}"


def _spread(values: np.ndarray) -> dict[str, float | str | None] | None:
    if len(values) == 0:
        return None
    return {
        "min": json_number(float(values.min())),
        "median": json_number(float(np.median(values))),
        "max": json_number(float(values.max())),
    }
