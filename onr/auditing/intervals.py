"""Intervals that say how much a number from a sample of images can be trusted."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import binom

__all__ = ["LEVEL", "newcombe", "quantile", "wilson"]

LEVEL = 0.95
"""The share of samples whose interval covers the number of the whole data set."""
_Z = 1.959963984540054


def wilson(hits: int, count: int, /) -> tuple[float, float]:
    """Wilson's interval of a share, at 95 % (Wilson 1927).

    Args:
        hits: how many images have the property.
        count: of how many, at least 1.

    Example:
        >>> low, high = wilson(0, 100)
        >>> low, round(high, 3)
        (0.0, 0.037)

    """
    share, z2 = hits / count, _Z**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return (0.0 if hits == 0 else low), (1.0 if hits == count else high)


def newcombe(both: int, second: int, first: int, count: int, /) -> tuple[float, float]:
    """Newcombe's interval of a difference of two shares of the same images, at 95 %.

    The difference is the second share minus the first (Newcombe 1998, Statistics in Medicine 17,
    2635-2650, method 10: Wilson's intervals, and the correlation of the pairs with a continuity
    correction).

    Args:
        both: how many images have both properties.
        second: how many have the second property alone.
        first: how many have the first property alone.
        count: of how many, at least 1.

    Example:
        >>> low, high = newcombe(36, 12, 2, 50)
        >>> round(low, 4), round(high, 4)
        (0.0569, 0.3404)

    """
    neither = count - both - second - first
    p, r = (both + second) / count, (both + first) / count
    (p_low, p_high), (r_low, r_high) = wilson(both + second, count), wilson(both + first, count)
    pairs = float(both * neither - second * first)
    if pairs > 0:
        pairs = max(pairs - count / 2, 0.0)
    totals = (both + second) * (first + neither) * (both + first) * (second + neither)
    phi = pairs / math.sqrt(totals) if totals else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    difference = (second - first) / count
    return (
        difference - reach(p - p_low, r_high - r),
        difference + reach(p_high - p, r - r_low),
    )


def quantile(values: np.ndarray, q: float, /) -> tuple[float, float, float]:
    """A quantile of the values that are not NaN, with a distribution-free interval at 95 %.

    The interval runs between two order statistics, whose ranks are quantiles of the binomial
    distribution. All three are NaN without values; an end is infinite where the sample is too small
    to have one. Between -inf and inf the quantile is 0.

    Example:
        >>> quantile(np.arange(1.0, 101.0), 0.5)
        (50.5, 40.0, 61.0)

    """
    known = np.sort(values[~np.isnan(values)])
    count = len(known)
    if not count:
        return math.nan, math.nan, math.nan
    low = int(binom.ppf((1 - LEVEL) / 2, count, q))
    high = int(binom.ppf((1 + LEVEL) / 2, count, q)) + 1
    place = q * count
    below, above = math.ceil(place) - 1, min(count - 1, math.floor(place))
    opposite = known[below] == -math.inf and known[above] == math.inf
    return (
        0.0 if opposite else float(known[below] / 2 + known[above] / 2),
        float(known[low - 1]) if low >= 1 else -math.inf,
        float(known[high - 1]) if high <= count else math.inf,
    )
