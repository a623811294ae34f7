"""A global search for ``||J||_{p,q}`` of small matrices, and ``operator_norm`` held against it.

Nothing here uses the package's norms or iterations. Where a ball has finitely many vertices the
search tries them all, and (2, 2) is NumPy's SVD. Elsewhere the power method climbs from many
starts: Gaussian ones, the axes, sign vectors (all of them where the ball is nearly a cube), and
the same on the side of the outputs. The best few of them climb on until they gain nothing.

    python tests/jacobians/global_search.py --matrices 2000 --seed 0
"""

import argparse
import itertools
import math
import platform
import time

import numpy as np

import onr
from onr.jacobians.operator_norms import operator_norm

EXPONENTS = (1, 1.05, 1.2, 2, 3, 4, 20, 200, math.inf)
LARGEST = 12
"""The largest side of a matrix."""
KINDS = ("Gaussian", "signs", "sparse", "low rank", "ties")
TOLERANCE = 1e-6
"""A lower bound misses if it is below what the search finds by more than this, relatively."""
ROUNDING = 1e-9
"""An upper bound is wrong if it is below what the search finds by more than this, relatively."""


def draw(rng, kind, d, n):
    """A matrix of this kind with at least one entry that is not zero."""
    J = rng.standard_normal((d, n))
    if kind == "signs":
        J = np.where(J < 0, -1.0, 1.0)
    if kind == "sparse":
        J *= rng.random((d, n)) < 0.3
    if kind == "low rank":
        rank = rng.integers(1, 1 + max(1, min(d, n) // 2))
        J = rng.standard_normal((d, rank)) @ rng.standard_normal((rank, n))
    if kind == "ties":
        J = rng.integers(-1, 2, (d, n)).astype(float)
    if not J.any():
        J[0, 0] = 1
    return J


def groups(count, seed):
    """``count`` matrices of random shapes and of every kind, stacked by shape, with their numbers.

    The number of a matrix and the seed determine the matrix.
    """
    found = {}
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        d, n = rng.integers(1, LARGEST + 1, 2)
        J = draw(rng, KINDS[index % len(KINDS)], d, n)
        found.setdefault(J.shape, []).append((index, J))
    for same in found.values():
        yield [index for index, _ in same], np.stack([J for _, J in same])


def size(x, p):
    """The p-norm along the last axis."""
    a = np.abs(x)
    if p == math.inf:
        return a.max(axis=-1)
    if p == 1:
        return a.sum(axis=-1)
    if p == 2:
        return np.sqrt((a * a).sum(axis=-1))
    largest = np.maximum(a.max(axis=-1), 1e-300)
    return largest * ((a / largest[..., None]) ** p).sum(axis=-1) ** (1 / p)


def dual(p):
    return {1: math.inf, math.inf: 1}.get(p) or p / (p - 1)


def toward(z, p):
    """The maximiser of ``<v, z>`` over the unit ball of the p-norm, for ``1 < p < inf``."""
    a = np.abs(z)
    scaled = a / np.maximum(a.max(axis=-1, keepdims=True), 1e-300)
    v = np.sign(z) * (scaled if p == 2 else scaled ** (1 / (p - 1)))
    return v / np.maximum(size(v, p), 1e-300)[..., None]


def signs(k):
    """The sign vectors with first entry +1, shape ``(2^(k-1), k)``."""
    return np.array(list(itertools.product([1.0], *[[1.0, -1.0]] * (k - 1))))


def brute_force(J, p, q):
    """The norms of matrices ``(m, d, n)`` where finitely many candidates have them, else None."""
    _, d, n = J.shape
    turned = J.swapaxes(1, 2)
    if p == 1 or n == 1:
        return size(turned, q).max(axis=1)
    if q == math.inf or d == 1:
        return size(J, dual(p)).max(axis=1)
    if p == math.inf:
        return size(signs(n) @ turned, q).max(axis=1)
    if q == 1:
        return size(signs(d) @ J, dual(p)).max(axis=1)
    if p == q == 2:
        return np.linalg.svd(J, compute_uv=False)[:, 0]
    return None


def starts(rng, k, cube):
    """Directions of k entries; all sign vectors if ``cube``, else some of them."""
    corners = signs(k) if cube else rng.choice([-1.0, 1.0], (40, k))
    return np.concatenate([np.eye(k), corners, rng.standard_normal((80, k))])


def global_search(J, p, q, rng):
    """The largest ``||J v||_q`` found over the p-ball, for each matrix of ``(m, d, n)``."""
    exact = brute_force(J, p, q)
    if exact is not None:
        return exact
    m, d, n = J.shape
    turned = J.swapaxes(1, 2)
    inputs = starts(rng, n, cube=p >= 3)
    outputs = toward(starts(rng, d, cube=q <= 1.5) @ J, p)
    v = np.concatenate([np.broadcast_to(inputs, (m, *inputs.shape)), outputs], axis=1)
    v = v / np.maximum(size(v, p), 1e-300)[..., None]
    value = size(v @ turned, q)
    for kept, steps in ((60, 6), (20, 20), (6, 60), (3, 2000)):
        best = np.argsort(-value, axis=1)[:, :kept]
        v = np.take_along_axis(v, best[:, :, None], axis=1)
        value = np.take_along_axis(value, best, axis=1)
        for _ in range(steps):
            v = toward(toward(v @ turned, dual(q)) @ J, p)
            before, value = value, size(v @ turned, q)
            if np.all(value <= before * (1 + 1e-13)):
                break
    return value.max(axis=1)


def compare(count, seed, exponents=EXPONENTS):
    """Yield ``(pair, numbers, found, sought)`` for every shape and pair of exponents."""
    for numbers, J in groups(count, seed):
        for p, q in itertools.product(exponents, repeat=2):
            found = operator_norm(J, p=p, q=q)
            sought = global_search(J, p, q, np.random.default_rng([seed, numbers[0]]))
            yield (p, q), numbers, found, sought


def misses(pair, numbers, found, sought):
    """Each matrix whose lower bound is below what was sought, as text."""
    return [
        f"matrix {number} ({KINDS[number % len(KINDS)]}, {found.u.shape[1]} x {found.v.shape[1]}), "
        f"p = {pair[0]:g}, q = {pair[1]:g}: {low:.9g} found, {best:.9g} attained"
        for number, low, best in zip(numbers, found.lower, sought, strict=True)
        if low < best * (1 - TOLERANCE)
    ]


def main():
    parser = argparse.ArgumentParser(description="Hold operator_norm against a global search.")
    parser.add_argument("--matrices", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        f"{options.matrices} matrices, seed {options.seed}; onr {onr.__version__}, "
        f"NumPy {np.__version__}, Python {platform.python_version()}",
        flush=True,
    )
    start, norms, missed, behind, wrong = time.perf_counter(), 0, 0, 0, 0
    for pair, numbers, found, sought in compare(options.matrices, options.seed):
        norms += len(numbers)
        below = misses(pair, numbers, found, sought)
        missed += len(below)
        behind += int(np.sum(sought < found.lower * (1 - TOLERANCE)))
        wrong += int(np.sum(found.upper < sought * (1 - ROUNDING)))
        for line in below:
            print(line, flush=True)
    print(
        f"{norms} norms in {time.perf_counter() - start:.0f} s: {missed} below the search by more "
        f"than {TOLERANCE:g}, {behind} above it; {wrong} upper bounds below the search"
    )
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
