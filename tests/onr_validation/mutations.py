"""Mistakes in the code, and for each the command whose verdict falls when it is made.

``docs/theorem.md`` lists them. A mistake is a name, a command line, what is replaced, and a
function that makes the wrong one from the right one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import onr.jacobians.cell_radius
import onr.jacobians.inf_1_bound
import onr.jacobians.inf_2_bound
import onr.jacobians.interpolated_bounds
import onr.jacobians.iterations
import onr.jacobians.operator_norms
import onr.jacobians.sign_enumeration
import onr.norms
import onr.projections
import onr_numpy.layers
from onr.arrays import column, flatten, max_abs
from onr.jacobians.operator_norms import OperatorNorm
from onr.losses import LogitDistance
from onr.norms import BaseNorm, LpNorm
from onr_numpy.exact_network import ExactDense
from onr_numpy.layers import Dense, Pooling, Rectifier
from onr_numpy.network import DenseLinearization

Wrong = Callable[[Any], Any]

FEW = "--trials 2 --iterations 3 --layers 6"
THEOREM = f"verify-theorem --p inf --q 1 {FEW}"
EUCLIDEAN = f"verify-theorem --p 2 --q 2 {FEW}"
POOLED = "verify-theorem --p inf --q 1 --trials 2 --iterations 2 --layers c2,m2,4"
EVERY = f"verify-theorem --all {FEW}"
EXACT = f"verify-theorem --p inf --q 1 --arithmetic exact {FEW}"
LEMMAS = "verify-lemmas --trials 3"
TABLE = "verify-table1 --arithmetic float --trials 2"


@dataclass(frozen=True)
class Mutation:
    """One mistake, and the command that must end with exit code 1."""

    name: str
    command: str
    owner: Any
    """The class or module that holds what is replaced."""
    attribute: str
    wrong: Wrong

    def make(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the mistake; a function is replaced in every module that has imported it."""
        right = getattr(self.owner, self.attribute)
        wrong = self.wrong(right)
        if isinstance(self.owner, type):
            monkeypatch.setattr(self.owner, self.attribute, wrong)
            return
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0].startswith("onr"):
                for key, value in list(vars(module).items()):
                    if value is right:
                        monkeypatch.setattr(module, key, wrong)


def _only(p: float, wrong: Callable[..., Any]) -> Wrong:
    """Replace a method of the lp norm for one exponent alone; ``wrong`` is given the right one."""

    def make(right: Any) -> Any:
        def method(norm: LpNorm, *arguments: Any, **options: Any) -> Any:
            if norm.p == p:
                return wrong(right, norm, *arguments, **options)
            return right(norm, *arguments, **options)

        return method

    return make


def _result(change: Callable[..., OperatorNorm]) -> Wrong:
    """Replace the answer of ``operator_norm``; ``change`` is given it, J, p and q."""

    def make(right: Any) -> Any:
        def operator_norm(J: Any, /, *, p: Any, q: Any, **options: Any) -> OperatorNorm:
            a, b = (float(getattr(norm, "p", norm)) for norm in (p, q))
            return change(right(J, p=p, q=q, **options), J, a, b)

        return operator_norm

    return make


def _keywords(**changes: Callable[[Any], Any]) -> Wrong:
    """Change keyword arguments of a function."""

    def make(right: Any) -> Any:
        def function(*arguments: Any, **options: Any) -> Any:
            changed = {name: change(options[name]) for name, change in changes.items()}
            return right(*arguments, **{**options, **changed})

        return function

    return make


def _after(change: Callable[[Any], Any]) -> Wrong:
    """Change what a function returns."""
    return lambda right: lambda *arguments, **options: change(right(*arguments, **options))


def _silent_where_negative(right: Any) -> Any:
    def vjp(self: DenseLinearization, u: np.ndarray) -> np.ndarray:
        image = right(self, u)
        return np.where(column(flatten(image)[:, 0] < 0, image), 0 * image, image)

    return vjp


def _scaled_into_ball(right: Any, norm: LpNorm, y: Any, radius: Any) -> Any:
    size, radius = column(norm(y), y), column(radius, y)
    return np.where(size > radius, y * (radius / np.where(size > 0, size, 1)), y)


def _onto_sphere(right: Any, norm: LpNorm, y: Any, radius: Any) -> Any:
    size, radius = column(norm(y), y), column(radius, y)
    return np.where(size > 0, y * (radius / np.where(size > 0, size, 0 * size + 1)), y)


def _without_small(right: Any, norm: LpNorm, z: Any, ties: str = "average") -> Any:
    large = np.abs(z) * 10**6 > column(max_abs(z), z)
    return np.where(large, right(norm, z, ties=ties), 0 * z)


def _largest_signed(right: Any, norm: LpNorm, z: Any, ties: str = "average") -> Any:
    tied = z == column(flatten(z).max(axis=1), z)
    return right(norm, np.where(tied, z, 0 * z), ties=ties)


def _with_p_for_its_conjugate(right: Any, norm: LpNorm, z: Any, ties: str = "average") -> Any:
    powers = np.sign(z) * np.abs(z) ** (norm.p - 1)
    return powers / column(norm(powers), z)


def _inside_stays(right: Any, norm: LpNorm, y: Any, radius: Any) -> Any:
    return norm.project_ball(y, radius)


def _first_radius(right: Any) -> Any:
    def project_ball(norm: LpNorm, y: Any, radius: Any) -> Any:
        return right(norm, y, radius.flat[0] if getattr(radius, "ndim", 0) else radius)

    return project_ball


def _in_gaussian_directions(right: Any) -> Any:
    def sample_ball(norm: LpNorm, rng: np.random.Generator, shape: tuple[int, ...], /) -> Any:
        points, g = right(norm, rng, shape), rng.standard_normal(shape)
        return g * column(norm(points) / norm(g), g)

    return sample_ball


def _clips_above(right: Any, norm: LpNorm, y: Any, radius: Any) -> Any:
    return np.minimum(y, 0 * y + column(radius, y))


def _as_the_duality_map(right: Any) -> Any:
    def project_face(norm: LpNorm, y: Any, direction: Any, /, radius: Any) -> Any:
        return column(radius, y) * norm.duality_map(direction)

    return project_face


def _mean(right: Any, norm: LpNorm, x: Any) -> Any:
    return right(norm, x) / flatten(x).shape[1]


def _finite(factor: float) -> Callable[[Any], Any]:
    """Multiply a step size that is not infinite; it may be an array of exact numbers."""

    def change(alpha: Any) -> Any:
        if getattr(alpha, "ndim", 0) == 0 and alpha == math.inf:
            return alpha
        top, bottom = factor.as_integer_ratio()
        return alpha * top / bottom

    return change


def _shrunk(right: Any) -> Any:
    def walk(*arguments: Any, alpha: Any = math.inf, **options: Any) -> Any:
        return right(*arguments, alpha=_finite(2.0**-30)(alpha), **options)

    return walk


def _equal_weights(right: Any) -> Any:
    def interpolated(corners: dict[Any, Any], p: float, q: float, /) -> Any:
        return np.exp(np.mean([np.log(corner) for corner in corners.values()], axis=0))

    return interpolated


def _transposed(found: OperatorNorm, J: Any, p: float, q: float) -> OperatorNorm:
    """The left singular vector, where J is square, in place of the right one."""
    square = not hasattr(J, "jvp") and (p, q) == (2, 2) and J.shape[1] == J.shape[2]
    return replace(found, v=found.u) if square else found


def _one_of_one(right: Any) -> Any:
    return lambda p: 1.0 if p == 1 else right(p)


def _first_mask(right: Any) -> Any:
    def remember(self: Rectifier, z: np.ndarray) -> np.ndarray:
        return np.broadcast_to(right(self, z)[:1], z.shape)

    return remember


def _with_bias(right: Any) -> Any:
    return lambda self, v, memory: self.forward(v, memory)


def _last_of_window(right: Any) -> Any:
    def remember(self: Pooling, z: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.windows[:, -1], (len(z), len(self.windows)))

    return remember


def _square_root(right: Any) -> Any:
    def direction(self: LogitDistance, logits: Any, /, *, labels: Any, clean: Any = None) -> Any:
        u = right(self, logits, labels=labels, clean=clean)
        return np.sign(u) * np.sqrt(np.abs(u))

    return direction


def _slightly(right: Any) -> Any:
    def jvp(self: ExactDense, v: np.ndarray, memory: None) -> np.ndarray:
        image = right(self, v, memory)
        return image + image / 2**100

    return jvp


NORMS, RADIUS = onr.jacobians.operator_norms, onr.jacobians.cell_radius
LOOPS, BOUNDS = onr.jacobians.iterations, onr.jacobians.interpolated_bounds

MUTATIONS = (
    # The duality maps and the norms
    Mutation(
        "ties for p = 1 are not shared",
        LEMMAS,
        LpNorm,
        "duality_map",
        _only(1, lambda right, norm, z, ties="average": right(norm, z, ties="vertex")),
    ),
    Mutation(
        "sign(0) = +1 for p = inf",
        LEMMAS,
        LpNorm,
        "duality_map",
        _only(math.inf, lambda right, norm, z, ties="average": right(norm, z, ties="vertex")),
    ),
    Mutation(
        "the duality map for p = inf drops small entries",
        LEMMAS,
        LpNorm,
        "duality_map",
        _only(math.inf, _without_small),
    ),
    Mutation(
        "the duality map for p = 1 takes the largest entry, not the largest magnitude",
        LEMMAS,
        LpNorm,
        "duality_map",
        _only(1, _largest_signed),
    ),
    Mutation(
        "the duality map for p = 3 has the exponent p in place of p*",
        LEMMAS,
        LpNorm,
        "duality_map",
        _only(3, _with_p_for_its_conjugate),
    ),
    Mutation("the 1-norm is a mean", LEMMAS, LpNorm, "__call__", _only(1, _mean)),
    Mutation("the 2-norm is divided by n", LEMMAS, LpNorm, "__call__", _only(2, _mean)),
    Mutation("the dual exponent of 1 is 1", LEMMAS, onr.norms, "dual_exponent", _one_of_one),
    Mutation(
        "the gradient of a norm is its own duality map",
        LEMMAS,
        BaseNorm,
        "gradient",
        lambda right: lambda norm, x: norm.duality_map(x),
    ),
    # The projections
    Mutation(
        "the ball for p = 2 is projected to its sphere always",
        LEMMAS,
        LpNorm,
        "project_ball",
        _only(2, _onto_sphere),
    ),
    Mutation(
        "the ball for p = 3 is projected to by scaling",
        LEMMAS,
        LpNorm,
        "project_ball",
        _only(3, _scaled_into_ball),
    ),
    Mutation(
        "the ball for p = 1 is projected to by scaling",
        LEMMAS,
        LpNorm,
        "project_ball",
        _only(1, _scaled_into_ball),
    ),
    Mutation(
        "the ball for p = inf clips above alone",
        LEMMAS,
        LpNorm,
        "project_ball",
        _only(math.inf, _clips_above),
    ),
    Mutation(
        "the simplex has twice the total",
        LEMMAS,
        onr.projections,
        "project_simplex",
        lambda right: lambda w, total: right(w, total + total),
    ),
    *(
        Mutation(
            f"points inside the sphere for p = {LpNorm(p).name} stay inside",
            LEMMAS,
            LpNorm,
            "project_sphere",
            _only(p, _inside_stays),
        )
        for p in (1, 2, math.inf)
    ),
    Mutation(
        "the ball of the first example is that of all",
        LEMMAS,
        LpNorm,
        "project_ball",
        _first_radius,
    ),
    Mutation(
        "the face for p = 1 is a point at ties",
        LEMMAS,
        LpNorm,
        "project_face",
        _only(
            1,
            lambda right, norm, y, direction, radius: (
                column(radius, y) * norm.duality_map(direction)
            ),
        ),
    ),
    # The draws from balls
    *(
        Mutation(
            f"points drawn from a ball are multiplied by {factor}",
            LEMMAS,
            LpNorm,
            "sample_ball",
            _after(lambda points, factor=factor: points * factor),
        )
        for factor in (1.5, 0.5)
    ),
    Mutation(
        "points drawn from a ball lie in directions of a Gaussian",
        LEMMAS,
        LpNorm,
        "sample_ball",
        _in_gaussian_directions,
    ),
    # The iterations
    Mutation("the step size of Eq. 11 is multiplied by 2^-30", LEMMAS, LOOPS, "walk", _shrunk),
    Mutation(
        "Eq. 12 takes a step too few", LEMMAS, LOOPS, "walk", _keywords(steps=lambda k: k - 1)
    ),
    Mutation(
        "Eq. 108 takes a step too few",
        THEOREM,
        LOOPS,
        "projected_gradient_ascent",
        _keywords(steps=lambda k: k - 1),
    ),
    Mutation(
        "a finite step of Eq. 108 is 5 % too short",
        THEOREM,
        LOOPS,
        "projected_gradient_ascent",
        _keywords(alpha=_finite(0.95)),
    ),
    Mutation(
        "a finite step of Eq. 108 is not projected",
        THEOREM,
        LpNorm,
        "project_ball",
        lambda right: lambda norm, y, radius: y,
    ),
    Mutation(
        "the face is a point: the conclusion is assumed",
        EVERY,
        LpNorm,
        "project_face",
        _as_the_duality_map,
    ),
    Mutation(
        "x_k lies at three times eps",
        THEOREM,
        LpNorm,
        "project_face",
        lambda right: lambda norm, y, g, radius: 3 * right(norm, y, g, radius),
    ),
    Mutation(
        "the direction of the loss is its square root",
        EUCLIDEAN,
        LogitDistance,
        "direction",
        _square_root,
    ),
    Mutation(
        "the loss is divided by the number of logits",
        THEOREM,
        LogitDistance,
        "value",
        _after(lambda value: value / 5),
    ),
    # The network and its cell
    Mutation(
        "J^T u is 0 where its first entry is negative",
        THEOREM,
        DenseLinearization,
        "vjp",
        _silent_where_negative,
    ),
    Mutation(
        "J^T u is divided by the batch",
        THEOREM,
        DenseLinearization,
        "vjp",
        lambda right: lambda self, u: right(self, u) / len(u),
    ),
    Mutation(
        "J v and J^T u are both zero",
        THEOREM,
        Rectifier,
        "jvp",
        lambda right: lambda self, v, memory: 0 * v,
    ),
    Mutation("J v keeps the biases", THEOREM, Dense, "jvp", _with_bias),
    Mutation(
        "all examples have the mask of the first", THEOREM, Rectifier, "remember", _first_mask
    ),
    Mutation(
        "a ReLU at exactly 0 is on",
        THEOREM,
        Rectifier,
        "remember",
        lambda right: lambda self, z: z >= 0,
    ),
    Mutation(
        "max pooling takes the last entry of each window",
        POOLED,
        Pooling,
        "remember",
        _last_of_window,
    ),
    Mutation(
        "kernels are flipped",
        POOLED,
        onr_numpy.layers,
        "toeplitz",
        lambda right: lambda kernel, *rest: right(kernel[:, :, ::-1, ::-1], *rest),
    ),
    Mutation("exact J v is off by one part in 2^100", EXACT, ExactDense, "jvp", _slightly),
    *(
        Mutation(
            f"the radius of the cell is multiplied by {factor}",
            THEOREM,
            RADIUS,
            "cell_radius",
            _after(lambda radius, factor=factor: radius * factor),
        )
        for factor in (1.9, 0.01)
    ),
    Mutation(
        "the radius of the cell is that for p = 2",
        THEOREM,
        RADIUS,
        "cell_radius",
        _keywords(p=lambda p: LpNorm(2)),
    ),
    # The bounds
    Mutation(
        "lower bounds are halved",
        TABLE,
        NORMS,
        "operator_norm",
        _result(lambda found, J, p, q: replace(found, lower=found.lower / 2)),
    ),
    Mutation(
        "lower bounds are 1 % above the truth where both bounds are known",
        TABLE,
        NORMS,
        "operator_norm",
        _result(
            lambda found, J, p, q: (
                replace(found, lower=1.01 * found.lower) if found.kind == "bracket" else found
            )
        ),
    ),
    Mutation(
        "lower bounds from products are 1 % above the truth",
        TABLE,
        NORMS,
        "operator_norm",
        _result(
            lambda found, J, p, q: (
                replace(found, lower=1.01 * found.lower) if hasattr(J, "jvp") else found
            )
        ),
    ),
    Mutation(
        "u is zero",
        TABLE,
        NORMS,
        "operator_norm",
        _result(lambda found, J, p, q: replace(found, u=0 * found.u)),
    ),
    Mutation(
        "v is not normalised",
        TABLE,
        NORMS,
        "operator_norm",
        _result(lambda found, J, p, q: replace(found, v=2 * found.v, lower=2 * found.lower)),
    ),
    Mutation(
        "the maximiser for (2, 2) is that of the transposed matrix",
        TABLE,
        NORMS,
        "operator_norm",
        _result(_transposed),
    ),
    Mutation(
        "the norm for (2, 2) is an eigenvalue of the Gram matrix, without the root",
        TABLE,
        NORMS,
        "operator_norm",
        _result(
            lambda found, J, p, q: (
                replace(found, lower=found.lower**2, upper=found.lower**2)
                if (p, q) == (2, 2) and found.kind == "exact"
                else found
            )
        ),
    ),
    Mutation(
        "all signs are +1",
        TABLE,
        onr.jacobians.sign_enumeration,
        "best_signs",
        _after(lambda signs: 0 * signs + 1),
    ),
    Mutation(
        "the bound of Schur's test is halved",
        TABLE,
        BOUNDS,
        "schur_bound",
        _after(lambda bound: bound / 2),
    ),
    Mutation(
        "the interpolation weighs all corners alike", TABLE, BOUNDS, "interpolated", _equal_weights
    ),
    *(
        Mutation(
            f"the bound for (inf, 2) is multiplied by {factor}",
            TABLE,
            onr.jacobians.inf_2_bound,
            "cube_bound",
            _after(lambda found, factor=factor: (found[0] * factor, found[1])),
        )
        for factor in (1.15, 0.95)
    ),
    *(
        Mutation(
            f"the bound for (inf, 1) is multiplied by {factor}",
            TABLE,
            onr.jacobians.inf_1_bound,
            "grothendieck_bound",
            _after(lambda found, factor=factor: (found[0] * factor, *found[1:])),
        )
        for factor in (0.8, 1.3, 1.7)
    ),
    *(
        Mutation(
            f"the guarantee for (inf, 2) is {said}",
            TABLE,
            onr.jacobians.inf_2_bound,
            "nesterov_factor",
            _after(change),
        )
        for said, change in (
            ("1", lambda factor: 0 * factor + 1),
            ("doubled", lambda factor: 2 * factor),
        )
    ),
)
