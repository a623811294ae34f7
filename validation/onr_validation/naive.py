"""Norms in the plainest way: the checks judge the norms under test by these few lines.

Nothing here uses :mod:`onr.norms`, so that a mistake there cannot hide itself.
"""

from __future__ import annotations

import math

import numpy as np

from onr.arrays import sqrt
from onr.protocols import Norm

__all__ = ["closed_form", "conjugate", "exponent", "size", "steepest"]


def exponent(norm: Norm) -> float | None:
    """The exponent that the name of an lp norm spells; ``None`` for a plugin's norm.

    Example:
        >>> from onr.norms import LpNorm
        >>> exponent(LpNorm(1.5)), exponent(LpNorm(math.inf))
        (1.5, inf)

    """
    try:
        return float(norm.name)
    except ValueError:
        return None


def conjugate(p: float) -> float:
    """The exponent ``p*`` with ``1/p + 1/p* = 1``.

    Example:
        >>> conjugate(1), conjugate(4.0), conjugate(math.inf)
        (inf, 1.3333333333333333, 1)

    """
    if p in (1, math.inf):
        return math.inf if p == 1 else 1
    return p / (p - 1)


def size(x: np.ndarray, p: float) -> np.ndarray:
    """The p-norm over the last axis, of floats or (for 1, 2 and inf) of exact numbers.

    Example:
        >>> size(np.array([[3.0, -4.0]]), 2), size(np.array([[3.0, -4.0]]), math.inf)
        (array([5.]), array([4.]))

    """
    a = np.abs(x)
    if p == math.inf:
        largest: np.ndarray = a.max(axis=-1)
        return largest
    if p == 1:
        total: np.ndarray = a.sum(axis=-1)
        return total
    if p == 2:
        root: np.ndarray = sqrt((a * a).sum(axis=-1))
        return root
    top = a.max(axis=-1)
    scaled = a / np.where(top > 0, top, 1.0)[..., None]
    power: np.ndarray = top * (scaled**p).sum(axis=-1) ** (1 / p)
    return power


def steepest(g: np.ndarray, p: float) -> np.ndarray:
    """A unit vector of the p-norm that maximises ``<v, g>``, over the last axis; ``g`` is nonzero.

    Example:
        >>> steepest(np.array([[3.0, -4.0]]), 1), steepest(np.array([[3.0, -4.0]]), 2)
        (array([[ 0., -1.]]), array([[ 0.6, -0.8]]))

    """
    if p == math.inf:
        signs: np.ndarray = np.sign(g)
        return signs
    a = np.abs(g) / np.abs(g).max(axis=-1, keepdims=True)
    if p == 1:
        first = np.arange(g.shape[-1]) == a.argmax(axis=-1)[..., None]
        return np.where(first, np.sign(g), 0.0)
    v = np.sign(g) * a ** (conjugate(p) - 1)
    unit: np.ndarray = v / size(v, p)[..., None]
    return unit


def closed_form(z: np.ndarray, p: float) -> np.ndarray:
    """Eq. 35 as the paper prints it, for p = 1, 2 and inf, row by row: ties share.

    The numbers are floats or exact; for p = 2 no row is zero.

    Example:
        >>> z = np.array([[3.0, -3.0, 0.0]])
        >>> closed_form(z, 1), closed_form(z, math.inf)
        (array([[ 0.5, -0.5,  0. ]]), array([[ 1., -1.,  0.]]))

    """
    if p == 2:
        unit: np.ndarray = z / size(z, 2)[:, None]
        return unit
    one: np.ndarray = 0 * z + 1
    signs = np.where(z > 0, one, np.where(z < 0, -one, 0 * one))
    if p == math.inf:
        return signs
    tied = one * (np.abs(z) == np.abs(z).max(axis=1)[:, None])
    shares: np.ndarray = signs * tied / tied.sum(axis=1)[:, None]
    return shares
