"""The verbs of a Jacobian: its products, its norms and singular values, its linear region."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from onr.errors import OnrError
from onr.front_door.arguments import RngLike, described, generator
from onr.front_door.models import network_of
from onr.front_door.results import in_package_of
from onr.jacobians import dense, lanczos, operator_norms
from onr.jacobians.lanczos import SingularTriplets
from onr.jacobians.operator_norms import OperatorNorm
from onr.measurements.loaders import taken
from onr.protocols import Linearization, NormLike
from onr.text import norm
from onr.typing import Array

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = [
    "cell_radius",
    "jacobian",
    "linear_operator",
    "linearize",
    "operator_norm",
    "singular_triplets",
    "singular_values",
]


def linearize(model: Any, x: Array, /) -> Linearization:
    """The network to first order at each input: ``f(x + dx) ~ value + J dx`` (Eq. 1).

    Args:
        model: a network, a ``torch.nn.Module`` in evaluation mode, or a plugin's model.
        x: inputs, shape ``(batch, *input_shape)``.

    Returns:
        ``.value``, the logits ``(batch, d)``; ``.jvp(v)``, ``J v`` for ``v`` shaped as ``x``; and
        ``.vjp(u)``, ``J^T u`` for ``u`` shaped as the logits. Each product costs about one forward
        pass, and is exact for the linear map at ``x``.

    Raises:
        OnrError: the model is in training mode, or does not fit ``x``.

    Example:
        >>> import onr, torch
        >>> model = torch.nn.Linear(3, 2)
        >>> x, v = torch.rand(4, 3), torch.rand(4, 3)
        >>> J = onr.linearize(model, x)
        >>> torch.allclose(J.jvp(v), v @ model.weight.T)
        True

    """
    return network_of(model, x).linearize(x)


def operator_norm(
    J: Any,
    x: Array | None = None,
    /,
    *,
    p: NormLike,
    q: NormLike,
    rng: RngLike = None,
    restarts: int | None = None,
    steps: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> OperatorNorm:
    """``||J||_{p,q} = max ||J v||_q`` over ``||v||_p = 1`` (Eq. 8), for each input.

    Exact for p = 1, q = inf and (2, 2), whatever the number of outputs, and for q = 1 with at most
    16 outputs; both bounds for other lp norms and up to 64 outputs; a lower bound for the rest.
    :func:`onr.jacobians.operator_norms.operator_norm` has the whole table.

    Beyond 64 outputs the exact norms take one backward pass for each output (for (2, 2) a forward
    pass as well) and do not store the Jacobian.

    Args:
        J: matrices ``(batch, d, n)``, a linearisation, or a model.
        x: inputs ``(batch, *input_shape)``, with a model alone.
        p: the norm of the inputs.
        q: the norm of the outputs.
        rng: of the random starts.
        restarts: how many starts of each sort; 10 to 200, by the size of the matrices, if not
            given.
        steps: iterations from each, at most; 1,000 if not given, 100 beyond 64 outputs.
        on_progress: called with the number of passes so far and in all, where the Jacobian is not
            stored.

    Returns:
        ``.kind`` (``exact``, ``bracket`` or ``lower``), ``.lower`` and ``.upper`` of shape
        ``(batch,)``, the maximiser ``.v``, its dual direction ``.u``, and more.

    Raises:
        OnrError: the model does not fit ``x``, or an argument is out of its range.

    Example:
        >>> import numpy as np, onr
        >>> found = onr.operator_norm(np.array([[[3.0, 0.0], [4.0, 1.0]]]), p="inf", q=1)
        >>> found.kind, found.value.tolist()
        ('exact', [8.0])

    """

    def compute(found: Linearization) -> OperatorNorm:
        return operator_norms.operator_norm(
            found.J if isinstance(found, dense.Matrices) and not found.shape else found,
            p=norm(p),
            q=norm(q),
            rng=generator(rng),
            restarts=restarts,
            steps=steps,
            on_progress=on_progress,
        )

    computed: OperatorNorm = _computed(compute, J, x)
    return computed


def singular_triplets(
    J: Any, k: int = 1, /, *, rng: RngLike = None, **options: Any
) -> SingularTriplets:
    """The ``k`` leading singular triplets, by Golub-Kahan-Lanczos from products alone.

    Args:
        J: matrices ``(batch, d, n)`` or a linearisation.
        k: how many.
        rng: of the start.
        options: ``steps`` and ``tolerance`` of :func:`onr.jacobians.lanczos.singular_triplets`.

    Returns:
        ``.S`` of shape ``(batch, k)``, lower bounds up to rounding; ``.U`` and ``.V``, the vectors;
        and the residuals.

    Raises:
        OnrError: ``k`` is larger than a side of ``J``, or ``J`` is neither.

    Example:
        >>> import numpy as np, onr
        >>> onr.singular_triplets(np.diag([3.0, 2.0, 1.0])[None], 2).S.round(6).tolist()
        [[3.0, 2.0]]

    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise OnrError(
            f"k is {described(k)}: expected a whole number; of a model, write "
            "onr.singular_triplets(onr.linearize(model, x), k)"
        )
    return lanczos.singular_triplets(_jacobian_of(J), int(k), rng=generator(rng), **options)


def singular_values(J: Any, x: Array | None = None, /) -> Array:
    """All ``min(d, n)`` singular values, largest first, ``(batch, min(d, n))``; exact.

    ``J`` is formed by ``min(d, n)`` products.

    Args:
        J: matrices ``(batch, d, n)``, a linearisation, or a model.
        x: inputs ``(batch, *input_shape)``, with a model alone.

    Raises:
        OnrError: the model does not fit ``x``.

    Example:
        >>> import numpy as np, onr
        >>> onr.singular_values(np.array([[[3.0, 0.0], [0.0, 4.0]]])).tolist()
        [[4.0, 3.0]]

    """
    return _computed(dense.singular_values, J, x)


def jacobian(J: Any, x: Array | None = None, /) -> Array:
    """``J`` as matrices, ``(batch, d, n)``; exact, by ``min(d, n)`` products.

    Args:
        J: a linearisation, or a model.
        x: inputs ``(batch, *input_shape)``, with a model alone.

    Raises:
        OnrError: the model does not fit ``x``.

    Example:
        >>> import onr, torch
        >>> model = torch.nn.Linear(3, 2)
        >>> onr.jacobian(model, torch.rand(4, 3)).shape
        torch.Size([4, 2, 3])

    """

    def compute(found: Linearization) -> Array:
        return found.J if isinstance(found, dense.Matrices) else dense.jacobian(found)

    return _computed(compute, J, x)


def linear_operator(J: Any, x: Array | None = None, /) -> LinearOperator:
    """``J`` at one input, ``(d, n)``, as an operator of ``scipy.sparse.linalg``; never formed.

    Args:
        J: a linearisation at one input, or a model.
        x: one input ``(1, *input_shape)``, with a model alone.

    Raises:
        OnrError: there is not exactly one input.

    Example:
        >>> import onr, torch
        >>> onr.linear_operator(torch.nn.Linear(3, 2), torch.rand(1, 3)).shape
        (2, 3)

    """
    from onr.jacobians.scipy_operator import linear_operator as operator

    return operator(_jacobian_of(J) if x is None else linearize(J, x))


def cell_radius(model: Any, x: Array, /, *, p: NormLike) -> Array:
    """The largest eps with the p-ball about each input inside its ReLU cell; exact, ``(batch,)``.

    Within it the network is linear. A unit at exactly zero gives radius 0; a network without hidden
    units gives ``inf``. In torch it costs n products an input.

    Args:
        model: a ReLU network; convolutions and max pooling are understood.
        x: inputs, shape ``(batch, *input_shape)``.
        p: the norm of the ball.

    Raises:
        OnrError: the network has another nonlinearity.
        NotAvailableError: a torch network, and a norm that is no lp norm.

    Example:
        >>> import onr, torch
        >>> onr.cell_radius(torch.nn.ReLU(), torch.tensor([[3.0, -1.0]]), p="inf")
        tensor([1.])

    """
    return network_of(model, x).cell_radius(x, p=norm(p))


def _computed(compute: Callable[..., Any], J: Any, x: Array | None) -> Any:
    """What ``compute`` makes of a linearisation or matrices, in arrays of the user's package.

    That of a model at ``x`` works with the arrays that its network works with.
    """
    if x is None:
        return compute(_jacobian_of(J))
    network = network_of(J, x)
    return in_package_of(x, compute(network.linearize(taken(network, x))))


def _jacobian_of(J: Any) -> Linearization:
    """A linearisation as it is; that of matrices, without the graph of a tensor."""
    if hasattr(J, "jvp"):
        linearization: Linearization = J
        return linearization
    if getattr(J, "ndim", 0) != 3:
        shape = f" of shape {tuple(J.shape)}" if hasattr(J, "shape") else ""
        raise OnrError(
            f"{described(J)}{shape}: expected matrices (batch, d, n), a linearisation, or a "
            "model and inputs x"
        )
    J = J.detach() if hasattr(J, "detach") else J  # such as a weight of torch
    dense.check_matrices(J)
    return dense.Matrices(J)
