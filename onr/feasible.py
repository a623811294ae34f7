"""The constraints on the result of an attack: the ball around the input, and the pixel box."""

from __future__ import annotations

import math

from onr.arrays import (
    array_namespace,
    column,
    device,
    flatten,
    in_float32,
    is_half,
    max_abs,
    put,
    safe,
    to_numpy,
)
from onr.errors import ImageError, OnrError
from onr.norms import LpNorm
from onr.protocols import Array, Norm

__all__ = [
    "Bounds",
    "Feasible",
    "ascent",
    "boxed",
    "doubt",
    "require_inside",
    "require_radius",
    "require_range",
]

Bounds = tuple[float, float]
ALTERNATIONS = 3
"""How often projections onto a ball and the box alternate, where one undoes the other."""


def require_radius(eps: float) -> float:
    """Return ``eps`` if it is a finite number >= 0.

    Raises:
        OnrError: ``eps`` is negative, infinite or nan.

    Example:
        >>> require_radius(0.5)
        0.5

    """
    try:
        known = bool(0 <= eps < math.inf)
    except TypeError:
        known = False
    if not known:
        raise OnrError(f"eps = {eps!r}: expected a finite number >= 0")
    return eps


def doubt(p: Norm, eps: float) -> str | None:
    """What is doubtful about a radius for pixels in [0, 1], in words; ``None`` if nothing is.

    Example:
        >>> doubt(LpNorm(math.inf), 8.0)
        "eps = 8 takes every pixel anywhere in [0, 1]: for 8 of 255 grey levels, write '8/255'"

    """
    if p.name != "inf" or eps < 1:
        return None
    return (
        f"eps = {eps:g} takes every pixel anywhere in [0, 1]: for {eps:g} of 255 grey levels, "
        f"write '{eps:g}/255'"
    )


def require_range(x: Array, /, **lengths: Array | float) -> None:
    """Check that perturbations of these lengths do not overflow the float type of the inputs.

    Args:
        x: the inputs.
        lengths: a radius or step size by its name; an array or ``inf`` is not checked.

    Raises:
        OnrError: the inputs are no floats, or a finite length is more than a quarter of the largest
            number of their type.

    Example:
        >>> require_range(np.zeros((1, 2)), eps=0.5, alpha=math.inf)

    """
    is_half(x)
    if x.dtype == object:
        return
    limit = float(array_namespace(x).finfo(x.dtype).max) / 4
    for name, length in lengths.items():
        if not hasattr(length, "shape") and limit < length < math.inf:
            kind = str(x.dtype).removeprefix("torch.")
            raise OnrError(f"{name} = {length:g}: expected at most {limit:.3g} for {kind} inputs")


def require_inside(x: Array, bounds: Bounds | None, /) -> None:
    """Check that the inputs lie in the box; without bounds there is nothing to check.

    Raises:
        ImageError: an entry is below or above the bounds, or nan.
        OnrError: the inputs are no floats.

    Example:
        >>> require_inside(np.array([[0.0, 0.5, 1.0]]), (0, 1))

    """
    is_half(x)
    if bounds is None:
        return
    low, high = bounds
    xp = array_namespace(x)
    if 0 in x.shape or bool((xp.min(x) >= low) & (xp.max(x) <= high)):
        return
    inside = (x >= low) & (x <= high)
    if not bool(xp.all(inside)):
        place = to_numpy(flatten(inside)).argmin()
        image = place // math.prod(x.shape[1:])
        raise ImageError(
            int(image),
            f"a pixel is {x.reshape(-1)[int(place)]:g}, outside [{low:g}, {high:g}]: give pixels "
            "in these bounds, and put the normalisation inside the model",
        )


def boxed(x: Array, delta: Array, bounds: Bounds | None, p: Norm | None = None, /) -> Array:
    """Clip ``x + delta`` to the box; the result has the float type of ``x``.

    For ``x`` in the box, clipping only shrinks the entries of the perturbation. For a monotone norm
    the perturbation therefore stays in its ball. If ``p`` is another norm, a perturbation that
    clipping has made longer is brought back to the length that it had.

    Example:
        >>> boxed(np.array([[0.5, 0.9]]), np.array([[0.25, 0.25]]), (0, 1))
        array([[0.75, 1.  ]])

    """
    xp = array_namespace(x)
    moved = x + delta
    if bounds is not None:
        moved = moved.clip(*bounds)
        if p is not None and not p.monotone:
            low, high = bounds
            moved = x + _no_longer(p, moved - x, delta, low - x, high - x)
            moved = moved.clip(*bounds)  # the sum is rounded
    return xp.astype(moved, x.dtype)


def _no_longer(p: Norm, clipped: Array, delta: Array, low: Array, high: Array) -> Array:
    """Perturbations near the clipped ones that are in the box and no longer than ``delta``.

    Projections onto the ball and the box alternate, which comes close to both; what is still too
    long is scaled. To scale at once would shorten a perturbation many times over for the edges
    that clipping leaves in it.
    """
    xp = array_namespace(clipped)
    allowed = p(delta)
    if clipped.dtype != object:  # the projections of exact numbers are floats
        for _ in range(ALTERNATIONS):
            clipped = p.project_ball(clipped, allowed).clip(low, high)
    size = p(clipped)
    factor = xp.where(size > allowed, allowed / safe(size), xp.ones_like(size))
    return clipped * column(factor, clipped)


class Feasible:
    """The perturbations of ``x`` in a ball that also lie in the box, for many projections.

    The closest point is that in l2. For the norm of another inner product it is that in its own,
    the point scaled to the radius: its duality maps are the gradients of that inner product, and
    steps and projections of two inner products would not rest at a maximiser. A perturbation that
    clipping has made longer, in a norm that is not monotone, is brought back to its length.

    Args:
        x: the inputs, inside the bounds.
        norm: the norm of the ball.
        eps: its radius, one number or one for each example.
        bounds: the box, or ``None``.
        in_l2: whether the closest point is that in l2 for every norm, as steps along gradients
            need.

    Example:
        >>> from onr.norms import LpNorm
        >>> feasible = Feasible(np.array([[0.5, 0.9]]), LpNorm(math.inf), 0.25, (0, 1))
        >>> feasible.nearest(np.array([[-2.0, 2.0]])).round(6)
        array([[-0.25,  0.1 ]])

    """

    def __init__(
        self,
        x: Array,
        norm: Norm,
        eps: Array | float,
        bounds: Bounds | None,
        *,
        in_l2: bool = False,
    ) -> None:
        self._x, self._norm, self._eps, self._bounds = x, norm, eps, bounds
        self._scales = norm.euclidean and not isinstance(norm, LpNorm) and not in_l2
        self._box: tuple[Array, Array] | None = None
        if bounds is not None and x.dtype != object:  # floats less exact numbers are floats
            self._box = float(bounds[0]) - x, float(bounds[1]) - x
        self._cube: tuple[Array, Array] | None = None
        if self._box is not None and isinstance(norm, LpNorm) and norm.p == math.inf:
            xp, radius = array_namespace(x), column(eps, x)
            if hasattr(radius, "dtype"):
                radius = xp.asarray(radius, dtype=x.dtype)
            self._cube = self._box[0].clip(-radius, radius), self._box[1].clip(-radius, radius)

    def nearest(self, delta: Array, /) -> Array:
        """Take the closest point of the ball, then clip to the box."""
        if self._cube is not None:  # both at once
            clipped: Array = delta.clip(*self._cube)
            return clipped
        if not self._scales:
            return self.clip(self._norm.project_ball(delta, self._eps))
        xp, size, radius = array_namespace(delta), column(self._norm(delta), delta), self._eps
        factor = column(radius, delta) / safe(size)
        return self.clip(delta * xp.where(factor < 1, factor, xp.ones_like(size)))

    def limit(self, delta: Array, v: Array, /) -> Array:
        """The limit of ``nearest(delta + alpha * v)`` for ``alpha -> inf``."""
        if not self._scales:
            return self.clip(self._norm.project_face(delta, v, self._eps))
        xp = array_namespace(v)
        size = column(self._norm(v), v)
        return self.clip(xp.where(size == 0, delta, column(self._eps, v) * v / safe(size)))

    def clip(self, delta: Array, /) -> Array:
        """Clip ``x + delta`` to the box, and return the perturbation."""
        if self._box is not None:
            clipped: Array = delta.clip(*self._box)
            if self._norm.monotone:
                return clipped
            return _no_longer(self._norm, clipped, delta, *self._box)
        return (
            delta
            if self._bounds is None
            else boxed(self._x, delta, self._bounds, self._norm) - self._x
        )


def ascent(
    norm: Norm,
    g: Array,
    moved: Array,
    length: float,
    bounds: Bounds | None,
    /,
    *,
    settling: bool = False,
) -> Array:
    """A step of at most this length along the gradient ``g``, from points that lie in the box.

    This is ``length`` times the duality map of ``g``, without the entries that would leave the box
    at once. For ``p = 1``, whose duality map moves a single entry, it is the step that gains most
    to first order among those that stay in the box: it moves the entries of largest slope to the
    bounds, one after the other, until the length is used up.

    Small steps along the duality map, each followed by the l2 projection onto a ball of ``1 < p <
    inf``, do not settle at a maximiser unless ``p = 2``: those along the gradient itself do. They
    are the steps that ``settling`` asks for, also for the norm of another inner product, where a
    step has the l2 length of the one along the duality map.

    Example:
        >>> from onr.norms import LpNorm
        >>> g, moved = np.array([[3.0, 2.0, -1.0]]), np.array([[1.0, 0.75, 0.5]])
        >>> ascent(LpNorm(1), g, moved, 0.5, (0, 1))
        array([[ 0.  ,  0.25, -0.25]])

    """
    p = norm.p if isinstance(norm, LpNorm) else None
    if p == math.inf:  # each entry is clipped on its own
        return length * norm.duality_map(g)
    xp = array_namespace(g, moved)
    if bounds is not None:
        low, high = bounds
        g = xp.where(((g > 0) & (moved >= high)) | ((g < 0) & (moved <= low)), xp.zeros_like(g), g)
    if settling and p is not None and p > 1:
        g = g / safe(column(max_abs(g), g))
        return length * g / safe(column(norm(g), g))
    if settling and p is None and norm.euclidean:
        g, two = g / safe(column(max_abs(g), g)), LpNorm(2)
        return length * g * column(two(norm.duality_map(g)) / safe(two(g)), g)
    if bounds is None or p != 1:
        return length * norm.duality_map(g)
    here, slope = flatten(in_float32(moved)), flatten(in_float32(g))
    room = xp.where(slope > 0, high - here, here - low) * xp.astype(slope != 0, here.dtype)
    order = xp.argsort(xp.abs(slope), axis=1, descending=True)
    rows = xp.arange(len(order), device=device(g))[:, None]
    best = room[rows, order]
    share = (length - xp.cumulative_sum(best, axis=1) + best).clip(0, math.inf)
    used = put(xp.zeros_like(room), (rows, order), share)
    step = xp.sign(slope) * xp.minimum(used, room)
    return xp.astype(step.reshape(moved.shape), moved.dtype)
