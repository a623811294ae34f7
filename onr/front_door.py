"""The functions of ``import onr``: one verb each, for the models of every backend.

They turn what a user has, a model and text, into what the mathematics takes, a network and norms,
and hand it on. The backend is found by the type of ``x``.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onr.arrays import array_namespace, device, to_numpy
from onr.errors import OnrError
from onr.feasible import Bounds, doubt, require_radius
from onr.files import require_writable
from onr.jacobians import dense, lanczos, operator_norms
from onr.jacobians.lanczos import SingularTriplets
from onr.jacobians.operator_norms import OperatorNorm
from onr.measurements.loaders import labelled, taken
from onr.numerals import number, written
from onr.protocols import BackendNetwork, Linearization, Loss, Norm, NormLike
from onr.registry import registry
from onr.text import attack_by_name, norm, pair
from onr.training.config import TrainConfig
from onr.training.factories import versions
from onr.training.loop import run_training
from onr.training.subject import Subject, open_run
from onr.typing import Array

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from onr.auditing.record import Audit

__all__ = [
    "attack",
    "audit",
    "audited",
    "cell_radius",
    "generator",
    "jacobian",
    "labels_of",
    "linear_operator",
    "linearize",
    "network_of",
    "operator_norm",
    "radius",
    "singular_triplets",
    "singular_values",
    "train",
    "warn_of",
    "whole_numbers",
]

FIRST = 32
"""At how many inputs of a data set a model is looked at first."""

RngLike = np.random.Generator | int | None


def generator(rng: RngLike, /) -> np.random.Generator:
    """A generator as it is; a whole number as its seed; nothing as seed 0.

    Raises:
        OnrError: ``rng`` is none of these.

    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer | None):
        raise OnrError(f"rng = {rng!r}: expected a NumPy generator, a whole number, or nothing")
    if rng is not None and rng < 0:
        raise OnrError(f"rng = {rng}: expected a seed >= 0")
    return np.random.default_rng(0 if rng is None else int(rng))


def radius(eps: float | str, /) -> float:
    """A number, or a fraction as text, ``"8/255"``.

    Raises:
        OnrError: a text that is no number, or neither text nor number.

    """
    if isinstance(eps, str):
        return require_radius(number(eps))
    if isinstance(eps, bool) or not isinstance(eps, numbers.Real):
        raise OnrError(f"eps is {_described(eps)}: expected a number, or a text as '8/255'")
    return require_radius(float(eps))


def warn_of(p: Norm, /, *eps: float) -> None:
    """Warn the caller of the calling function of doubtful radii for pixels in [0, 1].

    Example:
        >>> warn_of(norm("inf"), 8 / 255)

    """
    for each in eps:
        if told := doubt(p, each):
            warnings.warn(told, stacklevel=3)


def network_of(model: Any, x: Array, /, *, check: bool = True) -> BackendNetwork:
    """The network of a backend that a model stands for at inputs like ``x``.

    Args:
        model: a network, a ``torch.nn.Module``, or what the backend of a plugin takes.
        x: inputs, shape ``(batch, *input_shape)``, floats.
        check: whether a model that is no function of each input is refused.

    Raises:
        OnrError: no backend takes ``x``, the model belongs to another backend, or the backend
            refuses the model or the shape or type of ``x``.

    """
    offers = [(plugin, entry) for plugin, entry in registry().offers("backend") if entry.arrays]
    known = {
        f"{plugin.name}:{entry.name}": (plugin.name, *entry.arrays) for plugin, entry in offers
    }
    names = [name for name, packages in known.items() if _from(x, packages)]
    if not names:
        expected = ", ".join(packages[1] for packages in known.values())
        raise OnrError(f"x is {_described(x)}: expected an array of {expected}")
    owners = [name for name, packages in known.items() if _from(model, packages)]
    shared = [name for name in names if name in owners]
    if owners and not shared:
        raise OnrError(
            f"x is {_described(x)} and the model {_described(model)}: give x as an array of "
            f"{known[owners[0]][1]}"
        )
    chosen = (shared or names)[0]
    backend = registry().resolve("backend", chosen).load()()
    network: BackendNetwork = backend.adopt(model, x, check=check)
    return network


def audited(model: Any, x: Array, /) -> tuple[BackendNetwork, str]:
    """The network of a model for an audit, and why everything else refuses the model.

    The text is empty for a network that is not refused. A refused one is used as it is.

    Raises:
        OnrError: the model does not even give logits at ``x``.

    Example:
        >>> import torch
        >>> audited(torch.nn.Linear(3, 2), torch.rand(4, 3))[1]
        ''

    """
    try:
        network = network_of(model, x).frozen()
        network.linearize(x, jvp=False)
    except OnrError as error:
        try:
            network = network_of(model, x, check=False)
            found = network(x[:1])
            useful = found.ndim == 2 and found.shape[1] >= 2
        except Exception:  # whatever the model raises
            useful = False
        if not useful:
            raise
        return network, str(error)
    return network, ""


def _from(value: Any, packages: tuple[str, ...]) -> bool:
    """Whether the type of a value, or a type that it derives from, is defined in these packages."""
    return any(kind.__module__.partition(".")[0] in packages for kind in type(value).__mro__)


def _described(value: Any) -> str:
    """The type of a value with its article, such as ``an int`` or ``a numpy.ndarray``."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def whole_numbers(y: Any, count: int, /) -> np.ndarray:
    """Labels as a NumPy array, ``(count,)``.

    Raises:
        OnrError: they are not one whole number for each input.

    Example:
        >>> whole_numbers([3, 1], 2)
        array([3, 1])

    """
    try:
        labels = np.asarray(y if isinstance(y, list | tuple) else to_numpy(y))
    except (TypeError, ValueError, AttributeError) as error:
        raise OnrError(f"y is {_described(y)}: expected one label for each input") from error
    if labels.shape != (count,):
        raise OnrError(f"y has shape {labels.shape}: expected one label for each input, ({count},)")
    if not np.issubdtype(labels.dtype, np.integer):
        raise OnrError(f"y holds {labels.dtype}: expected whole numbers, one label for each input")
    return labels


def labels_of(y: Any, network: BackendNetwork, x: Array, /) -> Array:
    """Labels as the network takes them.

    Raises:
        OnrError: they are not one whole number in ``[0, d)`` for each input.

    """
    labels = whole_numbers(y, len(x))
    classes = network(x[:1]).shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise OnrError(
            f"labels run from {labels.min()} to {labels.max()}: expected 0 to {classes - 1}"
        )
    return network.asarray(labels)


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


def _computed(compute: Callable[..., Any], J: Any, x: Array | None) -> Any:
    """What ``compute`` makes of a linearisation or matrices, in arrays of the user's package.

    That of a model at ``x`` works with the arrays that its network works with.
    """
    if x is None:
        return compute(_jacobian_of(J))
    network = network_of(J, x)
    return _like(x, compute(network.linearize(taken(network, x))))


def _like(x: Array, found: Any) -> Any:
    """A result, its arrays of NumPy converted to arrays of the package of ``x`` if that is another.

    Their types stay.
    """
    xp = array_namespace(x)
    if is_dataclass(found) and not isinstance(found, type):
        return replace(found, **{f.name: _like(x, getattr(found, f.name)) for f in fields(found)})
    if not isinstance(found, np.ndarray) or isinstance(x, np.ndarray):
        return found
    return xp.asarray(found, device=device(x))


def _jacobian_of(J: Any) -> Linearization:
    """A linearisation as it is; that of matrices."""
    if hasattr(J, "jvp"):
        linearization: Linearization = J
        return linearization
    if getattr(J, "ndim", 0) != 3:
        shape = f" of shape {tuple(J.shape)}" if hasattr(J, "shape") else ""
        raise OnrError(
            f"{_described(J)}{shape}: expected matrices (batch, d, n), a linearisation, or a "
            "model and inputs x"
        )
    dense.check_matrices(J)
    return dense.Matrices(J)


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
            f"k is {_described(k)}: expected a whole number; of a model, write "
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


def _check_counts(**counts: Any) -> None:
    for name, value in counts.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if value is not None and not (whole and value >= 1):
            raise OnrError(f"{name} = {value!r}: expected a whole number >= 1")


def _check_bounds(bounds: Any) -> None:
    try:
        low, high = (0.0, 1.0) if bounds is None else map(float, bounds)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not low < high:
        raise OnrError(f"bounds = {bounds!r}: expected two numbers, as (0, 1), or None")


def attack(
    model: Any,
    x: Array,
    y: Array,
    /,
    *,
    p: NormLike,
    eps: float | str,
    attack: str = "onr_paper:pga",
    loss: Loss | str | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    targeted: bool = False,
    bounds: Bounds | None = (0.0, 1.0),
    rng: RngLike = None,
    **options: Any,
) -> Array:
    """Perturbed inputs in the p-ball of radius ``eps`` about ``x``, shaped as ``x``.

    Args:
        model: a network, a ``torch.nn.Module`` in evaluation mode, or a plugin's model.
        x: inputs inside ``bounds``, shape ``(batch, *input_shape)``.
        y: labels to lead away from, or the classes to lead to if ``targeted``; ``(batch,)``.
        p: the norm of the ball.
        eps: its radius, in the units of ``x``; 0 returns ``x``.
        attack: the name of a registered attack; ``onr plugins`` lists them.
        loss: what it ascends, by name or as an object; cross-entropy if not given.
        steps: its iterations; the attack's own default if not given (20 for ``pga``).
        restarts: its random starts; the attack's own default if not given (1 for ``pga``).
        targeted: lead to ``y``.
        bounds: the box of valid inputs; ``None`` for none.
        rng: of the random starts; the same seed gives the same result.
        options: further options of the attack, as ``alpha=inf``.

    Raises:
        OnrError: the model does not fit ``x``, an input is outside the bounds, or the attack does
            not take what it was given.

    Example:
        >>> import onr, torch
        >>> model, x = torch.nn.Linear(3, 2), torch.rand(4, 3)
        >>> moved = onr.attack(model, x, model(x).argmax(1), p="inf", eps="8/255")
        >>> bool(((moved - x).abs() <= 8 / 255 + 1e-6).all())
        True

    """
    network = network_of(model, x)
    _check_counts(steps=steps, restarts=restarts)
    _check_bounds(bounds)
    chosen = attack_by_name(
        attack, loss=loss, steps=steps, restarts=restarts, options=options, targeted=targeted
    )
    ball, size = norm(p), radius(eps)
    if bounds == (0.0, 1.0):
        warn_of(ball, size)
    made = chosen.make(ball, size, bounds)
    inputs = taken(network, x)
    moved = made(network.frozen(), inputs, labels_of(y, network, inputs), rng=generator(rng))
    return _like(x, moved)


def audit(
    model: Any,
    x: Any,
    y: Array | None = None,
    /,
    *,
    p: NormLike,
    eps: float | str,
    norms: str | Sequence[str] = "2:2",
    images: int | None = None,
    seed: int | None = None,
    fast: bool = False,
    checks: Sequence[str] | None = None,
    batch_size: int | None = None,
    out: str | Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Audit:
    """How sensitive a model is, what an attack achieves, and whether to believe it.

    Args:
        model: a network, a ``torch.nn.Module`` in evaluation mode, or a plugin's model. What the
            other functions refuse, such as a model that draws noise, is audited as it is, and
            raises flags.
        x: images with pixels in [0, 1], ``(N, *input_shape)``; or a data set or loader, which has
            the labels.
        y: their labels, ``(N,)``.
        p: the norm of the perturbations.
        eps: their radius; a quarter, half and twice of it are looked at too.
        norms: the operator norms, ``"2:2,inf:1"`` or a list of such pairs P:Q; the first gives the
            maximisers of the pictures.
        images: how many images; 1,000 if not given (100 if fast), or all if there are fewer.
        seed: draws the images and the starts of attacks; the first images if not given.
        fast: fewer images, and a fifth of them for the checks.
        checks: the names of checks; all that are installed if not given.
        batch_size: how many images pass the network at once; chosen by memory if not given.
        out: a folder to save the audit in. Finished blocks of images are kept there, and the same
            audit goes on from them.
        on_progress: called with the number of images that are done, and of all.

    Raises:
        OnrError: the model does not fit ``x``, or no image can be measured.

    Example:
        >>> import onr, torch
        >>> model, x = torch.nn.Linear(4, 3), torch.rand(5, 4)
        >>> found = onr.audit(model, x, model(x).argmax(1), p=2, eps="0.1", checks=())
        >>> [row["eps"] for row in found.curve]
        ['0', '0.025', '0.05', '0.1', '0.2']

    """
    from onr.auditing.audit import AuditSettings, run_audit
    from onr.auditing.record import RECORD
    from onr.auditing.threat import Threat

    if y is None and hasattr(x, "shape"):
        raise OnrError("give y, the label of each input")
    inputs, y = labelled(model, x, y)
    network, refused = audited(model, inputs[:FIRST])
    inputs = taken(network, inputs)
    warn_of(norm(p), radius(eps))
    settings = AuditSettings(
        Threat(norm(p), eps if isinstance(eps, str) else written(float(eps))),
        tuple(map(pair, norms.split(",") if isinstance(norms, str) else norms)),
        images=images,
        seed=seed,
        fast=fast,
        checks=None if checks is None else tuple(checks),
        batch_size=batch_size,
    )
    folder = None if out is None else Path(out)
    if folder is not None:
        require_writable(folder, RECORD)
    found = run_audit(
        network,
        inputs,
        whole_numbers(y, len(inputs)),
        settings,
        refused=refused,
        subject={"model": type(model).__name__, "versions": versions()},
        out=folder,
        on_block=lambda done, total, _: on_progress(done, total),
    )
    assert found is not None  # noqa: S101 - for the type checker; it is one shard of one
    if folder is not None:
        found.save(folder)
    return found


def train(
    config: TrainConfig,
    /,
    *,
    out: str | Path,
    on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Subject:
    """Train a classifier in a folder, or continue the run there.

    Args:
        config: what to train; a run of the same configuration that was stopped goes on.
        out: the run's folder.
        on_epoch: called with each epoch's record, as it is written to ``metrics.jsonl``.

    A doubtful configuration, as an eps that no classifier withstands, is a ``UserWarning``.

    Returns:
        The trained model (``.network``) with its data set (``.batch(100)``), as
        :func:`onr.open_run` gives it.

    Raises:
        OnrError: the folder holds another run, or the training diverges.

    Example:
        >>> import onr
        >>> config = onr.TrainConfig(train_images=50, epochs=1, backend="numpy")
        >>> run = onr.train(config, out=tmp_path / "run")
        >>> x, y = run.batch(10)
        >>> onr.operator_norm(run.network, x, p=2, q=2).kind
        'exact'

    """
    if not isinstance(config, TrainConfig):
        raise OnrError(f"config is {_described(config)}: expected an onr.TrainConfig")
    run_training(
        config,
        Path(out),
        on_epoch=on_epoch,
        on_warning=lambda text: warnings.warn(text, stacklevel=4),
    )
    return open_run(out)
