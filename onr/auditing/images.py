"""What an audit measures at each image: Jacobian norms, radii, alignment, linearity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onr.arrays import array_namespace, column, flatten, inner, like, put, to_numpy
from onr.attacks.multitargeted import MultiTargeted
from onr.auditing.block import Block
from onr.auditing.probes import floats, margins
from onr.errors import ImageError, OnrError
from onr.feasible import boxed
from onr.jacobians import dense
from onr.jacobians.lanczos import singular_triplets
from onr.jacobians.operator_norms import operator_norm
from onr.losses import one_hot
from onr.measurements.perturbations import absolute_cosine
from onr.protocols import Array, Network, Norm

__all__ = ["WHOLE", "WORST", "Measured", "measure_images", "worst_pictures"]

WHOLE = 64
"""The most outputs of which the whole Jacobian is formed."""
OUTPUTS = 10
"""If there are more outputs, the Jacobian has a row for the label and for so many others."""
SIGMAS = 10
"""How many singular values are kept, of a Jacobian that is formed; Lanczos finds the largest."""
TOLERANCE = 1e-3
"""The residual of Lanczos's singular value, relative to the value."""
HALVINGS = 12
"""How often the segment from an image to its perturbation is halved."""
WORST, SIDE = 10, 112
"""How many images are kept as pictures, and up to how many pixels a side."""


@dataclass(frozen=True)
class Measured:
    """What was measured at the images of a block.

    Example:
        >>> Measured({"label": np.zeros(2)}, moved=None).pictures
        {}

    """

    columns: dict[str, np.ndarray]
    """Columns of the table, ``(n,)`` each: floats, and texts for the kinds of norms."""
    moved: Array
    """What the attack found at the largest radius, shaped as the images."""
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    """The worst images of the block: ``place``, ``radius`` found and first-order ``estimate``, and
    pictures: ``image`` in uint8, ``maximiser`` and ``perturbation`` in int8, scaled to 127."""


def measure_images(
    block: Block, norms: Sequence[tuple[Norm, Norm]], /, *, cells: int = 0
) -> Measured:
    """Measure the images of a block; all values hold up to the rounding of the network's floats.

    The columns are

    ``label``, ``predicted``, ``margin``
        the margin is the logit of the label minus the largest other; negative if misclassified.
    ``norm P:Q``, ``norm P:Q upper``, ``norm P:Q kind``
        ``||J||_{p,q}``, a lower bound unless the kind is ``exact``; NaN where no upper bound is
        known. Beyond 64 outputs ``J`` is that of the ten largest logits and the label's, and the
        value a lower bound for all logits, of kind ``lower``.
    ``sigma 1``, ...
        the largest singular values of ``J``: ten at most, exact; beyond 64 outputs the first alone,
        a lower bound within 1e-3 by Lanczos.
    ``first-order radius``, ``first-order class``
        the smallest ``(f_y - f_j) / ||grad(f_y - f_j)||_{p*}`` and its j: the distance to the
        nearest class if the network were linear, without a box; 0 if misclassified, ``inf`` if no
        gradient leads anywhere. It is an estimate.
    ``robust at EPS``
        1 if ``multitargeted`` does not change the prediction within EPS, for each radius.
    ``radius found``, ``class found``
        the norm of the smallest perturbation known that changes the prediction, an upper bound on
        the distance to the boundary: that of the attack or, if it is smaller, one along the
        gradient, each shortened by halving; ``inf`` if the attack found none.
    ``alignment``
        ``|cos|`` of the attack's perturbation with the maximiser of the first norm (Fig. 8).
    ``rho at EPS``
        ``<u, f(x + eps v) - f(x)> / (eps ||J^T u||_{p*})`` for the direction u from the label to
        the first-order class and the maximiser v of ``<J^T u, v>``; 1 where the network is linear.
    ``cell radius``, ``exact radius``
        of the first ``cells`` images: the radius within which a ReLU network is linear, and the
        exact distance to the nearest other class (without a box) where it is smaller than that.

    Args:
        block: the images.
        norms: the pairs (p, q).
        cells: for how many images, from the first of the audit, the cell radius is computed, at a
            cost of n passes each.

    Raises:
        ImageError: a logit or a derivative of an image is NaN.
        OnrError: the network has fewer than two logits.

    """
    network, x, y, threat = block.network, block.x, block.y, block.threat
    here = block.here
    z = floats(here.value)
    if z.shape[1] < 2:
        raise OnrError(f"the network gives {z.shape[1]} logit: expected two logits or more")
    d = z.shape[1]
    found: dict[str, np.ndarray] = {
        "label": y.astype(np.float64),
        "predicted": z.argmax(axis=1).astype(np.float64),
        "margin": -margins(z, y),
    }
    classes = _classes(z, y)
    J = _jacobian(block, classes if d > WHOLE else None)
    _require_finite(J)
    shape = network.input_shape
    matrices = dense.Matrices(J, shape)
    first = None
    for p, q in norms:
        norm = operator_norm(matrices, p=p, q=q)
        name = f"norm {p.name}:{q.name}"
        found[name] = floats(norm.lower)
        nothing = np.full(len(y), np.nan)
        whole = norm.upper is not None and d <= WHOLE
        found[f"{name} upper"] = floats(norm.upper) if whole else nothing
        found[f"{name} kind"] = np.full(len(y), norm.kind if d <= WHOLE else "lower")
        first = norm.v if first is None else first
    if d <= WHOLE:
        values = floats(dense.singular_values(matrices))[:, :SIGMAS]
    else:
        rng = block.rng("singular values")
        values = floats(singular_triplets(network.linearize(x), 1, rng=rng, tolerance=TOLERANCE).S)
    found |= {f"sigma {place}": each for place, each in enumerate(values.T, start=1)}

    radius, nearest, slope = _first_order(J, z, y, classes, threat.p, shape)
    found["first-order radius"], found["first-order class"] = radius, nearest
    attacked = _attacked(block, found["predicted"])
    moved = attacked.pop("moved")
    found |= attacked | _shortest(block, attacked, moved, threat.p.duality_map(slope))
    if first is not None:
        found["alignment"] = floats(absolute_cosine(moved - x, first))
    found |= _linearity(block, nearest, slope)
    few = block.take(block.places < cells)
    found |= _cells(block, few, radius)
    measured = Measured(found, moved)
    worst = np.lexsort((radius, found["radius found"]))
    worst = worst[found["predicted"][worst] == y[worst]][:WORST]
    return replace(measured, pictures=_pictures(block, worst, first, moved, found))


def _classes(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The label, then the other classes of largest logits, ``(n, min(d, 11))``."""
    ranked = z.copy()
    ranked[np.arange(len(y)), y] = np.inf
    return np.argsort(-ranked, axis=1, kind="stable")[:, : OUTPUTS + 1]


def _jacobian(block: Block, classes: np.ndarray | None) -> Array:
    """The rows of the Jacobian that belong to these classes at each image, or all rows."""
    here = block.here
    if classes is None and here.output_shape[0] > math.prod(here.input_shape):
        return dense.jacobian(block.network.linearize(block.x))  # by columns, n jvps
    if classes is None:
        return dense.jacobian(here)
    rows = [flatten(here.vjp(one_hot(like(each, block.labels), here.value))) for each in classes.T]
    return array_namespace(rows[0]).stack(rows, axis=1)


def _require_finite(J: Array) -> None:
    finite = to_numpy(array_namespace(J).isfinite(J)).all(axis=(1, 2))
    if not finite.all():
        raise ImageError(
            int(finite.argmin()), "a derivative is NaN or infinite: its Jacobian has no norm"
        )


def _first_order(
    J: Array, z: np.ndarray, y: np.ndarray, classes: np.ndarray, p: Norm, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, Array]:
    """The first-order radius, its class, and the gradient of ``f_j - f_y``."""
    rows, whole = np.arange(len(y)), J.shape[1] == z.shape[1]
    names = np.tile(np.arange(z.shape[1]), (len(y), 1)) if whole else classes
    at_label = (names == y[:, None]).argmax(axis=1)
    gradients = J - J[rows, at_label][:, None]
    count = names.shape[1]
    sizes = floats(p.dual(gradients.reshape((-1, *shape)))).reshape(len(y), count)
    gaps = z[rows, y][:, None] - np.take_along_axis(z, names, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        radii = np.where(sizes > 0, gaps / sizes, np.where(gaps > 0, np.inf, 0.0))
    radii[rows, at_label] = np.inf
    radii[np.isposinf(gaps)] = np.inf
    best = radii.argmin(axis=1)
    slope = gradients[rows, best].reshape((-1, *shape))
    return np.maximum(radii[rows, best], 0.0), names[rows, best].astype(np.float64), slope


def _attacked(block: Block, predicted: np.ndarray) -> dict[str, Any]:
    """What ``multitargeted`` finds at each radius, from the smallest.

    At the radius of the threat model, what is left is attacked once more from a new start, with all
    steps.
    """
    network, x, y, threat = block.network, block.x, block.y, block.threat
    moved, correct = x, predicted == y
    memory: dict[str, Any] = {}
    found: dict[str, Any] = {}
    radii = list(threat.radii.items())
    for place, (text, eps) in enumerate(radii, start=1):
        attack = MultiTargeted(p=threat.p, eps=eps, bounds=threat.bounds)
        for again in range(1 + (eps == threat.radius)):
            left = np.flatnonzero(correct)
            if not len(left):
                break
            rng = block.rng(f"attack {place}, {again}")
            if again:
                fresh = attack(network, x[left], block.labels[left], rng=rng)
                better = np.flatnonzero(_classes_at(network, fresh) != y[left])
                moved = put(moved, left[better], fresh[better])  # further() returned a new array
            else:
                more = place < len(radii)
                moved = attack.further(
                    network, x, block.labels, moved, left, more=more, memory=memory, rng=rng
                )
            correct = correct.copy()
            correct[left] = _classes_at(network, moved[left]) == y[left]
        found[f"robust at {text}"] = correct.astype(np.float64)
    return found | {"moved": moved}


def _classes_at(network: Network, x: Array) -> np.ndarray:
    """The predicted classes, ``(n,)``."""
    found: np.ndarray = floats(network(x)).argmax(axis=1)
    return found


def _shortest(
    block: Block, attacked: dict[str, Any], moved: Array, v: Array
) -> dict[str, np.ndarray]:
    """The smallest perturbation known: the attack's, or one along the gradient where that works."""
    predicted = floats(block.here.value).argmax(axis=1)
    wrong = predicted != block.y
    radius, target = np.where(wrong, 0.0, np.inf), np.where(wrong, predicted, np.nan)
    last = attacked[f"robust at {list(block.threat.radii)[-1]}"]
    broken = np.flatnonzero(~wrong & (last == 0))
    if len(broken):
        part = block.take(broken)
        radius[broken], target[broken] = _shortened(part, moved[broken] - part.x)
        length = column(like(radius[broken], part.x), part.x)
        threat = block.threat
        along = boxed(part.x, length * v[broken], threat.bounds, threat.p) - part.x
        works = np.flatnonzero(_classes_at(block.network, part.x + along) != part.y)
        if len(works):
            size, there = _shortened(part.take(works), along[works])
            less = size < radius[broken[works]]
            rows = broken[works][less]
            radius[rows], target[rows] = size[less], there[less]
    return {"radius found": radius, "class found": target}


def _shortened(block: Block, delta: Array) -> tuple[np.ndarray, np.ndarray]:
    """The norm of the shortest misclassified part of each perturbation, and its prediction."""
    network, x = block.network, block.x
    low, high = np.zeros(len(block)), np.ones(len(block))
    target = _classes_at(network, x + delta)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        there = _classes_at(network, x + delta * column(like(middle, x), x))
        wrong = there != block.y
        target = np.where(wrong, there, target)
        high, low = np.where(wrong, middle, high), np.where(wrong, low, middle)
    return floats(block.threat.p(delta)) * high, target.astype(np.float64)


def _linearity(block: Block, nearest: np.ndarray, slope: Array) -> dict[str, np.ndarray]:
    """``rho`` at each radius; NaN where the gradient is zero."""
    network, p, x = block.network, block.threat.p, block.x
    value = block.here.value
    u = one_hot(like(nearest.astype(int), block.labels), value) - one_hot(block.labels, value)
    v, steepness = p.duality_map(slope), floats(p.dual(slope))
    found = {}
    for text, eps in block.threat.radii.items():
        change = floats(inner(u, network(x + eps * v) - value))
        with np.errstate(invalid="ignore", divide="ignore"):
            found[f"rho at {text}"] = np.where(steepness > 0, change / (eps * steepness), np.nan)
    return found


def _cells(block: Block, few: Block, radius: np.ndarray) -> dict[str, np.ndarray]:
    """The cell radius of the first images, and the exact radius that follows from it."""
    nothing = np.full(len(block), np.nan)
    if not len(few):
        return {"cell radius": nothing, "exact radius": nothing}
    try:
        cell = floats(few.network.cell_radius(few.x, p=few.threat.p))
    except OnrError:  # not piecewise linear, or a norm whose cells are not computed
        return {"cell radius": nothing, "exact radius": nothing}
    cells = block.column(few, cell)
    return {"cell radius": cells, "exact radius": np.where(radius <= cells, radius, np.nan)}


def _pictures(
    block: Block, worst: np.ndarray, v: Array | None, moved: Array, found: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The images of these rows, the maximiser of the first norm there, and the perturbation."""
    if v is None or not len(worst):
        return {}

    def kept(values: Array, levels: int, kind: type) -> np.ndarray:
        rows = floats(values[worst])
        if rows.ndim == 4:  # few pixels suffice for a picture
            stride = -(-max(rows.shape[2:]) // SIDE)
            rows = rows[:, :, ::stride, ::stride]
        scale = np.abs(rows).max(axis=tuple(range(1, rows.ndim)), keepdims=True)
        if kind is np.uint8:
            scale = np.ones_like(scale)
        return np.rint(rows / np.where(scale > 0, scale, 1) * levels).astype(kind)

    return {
        "place": block.places[worst],
        "radius": found["radius found"][worst],
        "estimate": found["first-order radius"][worst],
        "image": kept(block.x, 255, np.uint8),
        "maximiser": kept(v, 127, np.int8),
        "perturbation": kept(moved - block.x, 127, np.int8),
    }


def worst_pictures(
    one: dict[str, np.ndarray], other: dict[str, np.ndarray], /
) -> dict[str, np.ndarray]:
    """The worst of the pictures of two sets of images, ten at most; the first set among equals.

    Example:
        >>> one = {"radius": np.array([0.5, 2.0]), "estimate": np.zeros(2)}
        >>> worst_pictures(one, {"radius": np.array([1.0]), "estimate": np.ones(1)})["radius"]
        array([0.5, 1. , 2. ])

    """
    if not one or not other:
        return one or other
    both = {name: np.concatenate([values, other[name]]) for name, values in one.items()}
    order = np.lexsort((both["estimate"], both["radius"]))[:WORST]
    return {name: values[order] for name, values in both.items()}
