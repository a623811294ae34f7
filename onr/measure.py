"""Measurements of any model around inputs: the public form of :mod:`onr.measurements`.

Every function takes ``(model, x, y)``, or ``(model, x)`` where ``x`` has the labels: a torch
``Dataset`` of pairs (image, label), or an iterable of batches ``(images, labels)`` such as a
``DataLoader`` (:func:`onr.measurements.loaders.labelled`). ``accuracy`` gives a number and
``robust_accuracy`` an array. The others give a table: a list of rows, texts and numbers by column,
which ``pandas.DataFrame`` takes as it is. A row has the mean over the inputs, its standard error,
and the number of inputs.

The perturbations of the tables are those of the paper's attack: ten steps of projected gradient
ascent on the cross-entropy from a random start. ``robust_accuracy`` takes any registered attack,
``multitargeted`` if none is given.

Both refuse pixels outside [0, 1]; the others measure at such inputs too, and warn.

``p`` and ``q`` are text, numbers or norms; radii are numbers or fractions as text. ``rng`` is a
NumPy generator, a whole number or nothing (seed 0), and fixes the attack's random starts. The
random directions that perturbations are compared with are always the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onr import measurements
from onr.front_door.arguments import RngLike, generator, labels_of, radius, warn_of
from onr.front_door.models import FIRST, network_of
from onr.measurements.batches import Inputs
from onr.measurements.loaders import extent, labelled, taken
from onr.norms import LpNorm
from onr.protocols import BackendNetwork, Loss, NormLike
from onr.text import attack_by_name, norm
from onr.typing import Array, Row

__all__ = [
    "accuracy",
    "activations",
    "alignment",
    "directions",
    "linearity",
    "norms",
    "robust_accuracy",
    "spectrum",
]

Radii = float | str | Sequence[float | str]


def _radii(eps: Any) -> list[float]:
    """Each radius once, in the order given."""
    return list(dict.fromkeys([radius(eps)] if np.ndim(eps) == 0 else map(radius, eps)))


def _seed(rng: RngLike) -> int:
    """A seed: drawn from a generator, a whole number itself, 0 for nothing."""
    drawn = generator(rng)
    return int(drawn.integers(2**63)) if isinstance(rng, np.random.Generator) else int(rng or 0)


def _prepared(
    model: Any, x: Any, y: Any, *, needs_labels: bool = True, bounded: bool = False
) -> tuple[BackendNetwork, Inputs, Array]:
    """The network, the inputs and the labels; class 0 where labels are neither given nor needed.

    Pixels outside [0, 1] are a warning to the caller of the calling function, unless they are
    ``bounded``: then what measures refuses them.
    """
    inputs, y = labelled(model, x, y, required=needs_labels)
    network = network_of(model, inputs if hasattr(inputs, "shape") else inputs[:FIRST])
    labels = labels_of([0] * len(inputs) if y is None else y, network, inputs)
    low, high = (0.0, 1.0) if bounded else extent(inputs)
    if low < 0 or high > 1:
        warnings.warn(
            f"pixels run from {low:g} to {high:g}, outside [0, 1]: they are measured as they are, "
            "and radii and norms are in their units; for those of pixels in [0, 1], put the "
            "normalisation inside the model",
            stacklevel=3,
        )
    return network.frozen(), taken(network, inputs), labels


def accuracy(model: Any, x: Any, y: Array | None = None, /) -> float:
    """The share of inputs whose largest logit, the first among equals, is that of their label.

    Args:
        model: a network, a ``torch.nn.Module`` in evaluation mode, or a plugin's model.
        x: inputs with pixels in [0, 1], shape ``(N, *input_shape)``; or a data set or loader, which
            has the labels.
        y: their labels, ``(N,)``; left out where ``x`` has them.

    Raises:
        ImageError: a pixel is outside [0, 1], a label is no class, or a logit is NaN.
        OnrError: the model does not fit ``x``, or the labels do not.

    Example:
        >>> import onr, torch
        >>> model, x = torch.nn.Linear(3, 2), torch.rand(4, 3)
        >>> y = model(x).argmax(1)
        >>> onr.measure.accuracy(model, x, y)
        1.0
        >>> loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 2)
        >>> onr.measure.accuracy(model, loader), onr.measure.accuracy(model, loader.dataset)
        (1.0, 1.0)

    """
    network, x, labels = _prepared(model, x, y, bounded=True)
    (row,) = measurements.accuracy(network, x, labels, p=LpNorm(2), eps=[])
    mean: float = row["mean"]
    return mean


def robust_accuracy(
    model: Any,
    x: Any,
    y: Array | None = None,
    /,
    *,
    p: NormLike,
    eps: Radii,
    attack: str = "onr_paper:multitargeted",
    loss: Loss | str | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    rng: RngLike = None,
    **options: Any,
) -> np.ndarray:
    """The share of inputs that keep their label under an attack, for each radius.

    This is an upper bound on the share that no perturbation in the ball changes: a stronger attack
    can only find less. Under ``multitargeted`` the share never rises with the radius, because an
    input that is broken at one radius counts as broken at all larger ones.

    Args:
        model: a network, a ``torch.nn.Module`` in evaluation mode, or a plugin's model.
        x: inputs with pixels in [0, 1], shape ``(N, *input_shape)``.
        y: their labels, ``(N,)``.
        p: the norm of the ball.
        eps: its radius, or several; 0 is the clean accuracy.
        attack: the name of a registered attack.
        loss: what it ascends, if it takes a loss; cross-entropy if not given.
        steps: its iterations; the attack's own default if not given.
        restarts: its random starts; the attack's own default if not given.
        rng: of the random starts.
        options: further options of the attack.

    Returns:
        The shares, in the order of ``eps``; shape ``()`` for a single radius.

    Raises:
        OnrError: the model does not fit ``x``, or the attack does not take what it was given.

    Example:
        >>> import onr, torch
        >>> model, x = torch.nn.Linear(3, 2), torch.rand(4, 3)
        >>> y = model(x).argmax(1)
        >>> onr.measure.robust_accuracy(model, x, y, p=2, eps=[0, "1/2"]).shape
        (2,)

    """
    network, x, labels = _prepared(model, x, y, bounded=True)
    chosen = attack_by_name(attack, loss=loss, steps=steps, restarts=restarts, options=options)
    warn_of(norm(p), *_radii(eps))
    rows = measurements.accuracy(
        network,
        x,
        labels,
        p=norm(p),
        eps=[size for size in _radii(eps) if size > 0],
        attack=lambda p, size: chosen.make(p, size, (0.0, 1.0)),
        seed=_seed(rng),
    )
    found = {row["eps"]: row["mean"] for row in rows}
    asked: Any = [eps] if np.ndim(eps) == 0 else eps
    shares = np.array([found[radius(each)] for each in asked])
    return shares.reshape(np.shape(eps))


def norms(
    model: Any,
    x: Any,
    y: Array | None = None,
    /,
    *,
    p: NormLike,
    q: NormLike,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Both bounds of the (p, q) operator norm of the logits' Jacobian, equal where it is exact.

    Args:
        model: a network, a ``torch.nn.Module`` in evaluation mode, or a plugin's model.
        x: inputs, shape ``(N, *input_shape)``.
        y: their labels, on which the Jacobian does not depend; may be left out.
        p: the norm of the inputs.
        q: the norm of the logits.
        on_progress: called beyond 64 outputs, where an exact norm takes a pass or two for each
            output, with the passes so far and in all, each counted once for each input.

    Returns:
        :func:`onr.measurements.norms.norms` describes the rows.

    Raises:
        OnrError: the model does not fit ``x``.

    Example:
        >>> import onr, torch
        >>> rows = onr.measure.norms(torch.nn.Linear(3, 2), torch.rand(4, 3), p="inf", q=1)
        >>> [row["quantity"] for row in rows], rows[0]["kind"]
        (['lower', 'upper', 'bracket'], 'exact')

    """
    network, x, labels = _prepared(model, x, y, needs_labels=False)
    return measurements.norms(network, x, labels, p=norm(p), q=norm(q), on_progress=on_progress)


def spectrum(
    model: Any,
    x: Any,
    y: Array | None = None,
    /,
    *,
    p: NormLike,
    eps: float | str,
    rng: RngLike = None,
    reference: Any = None,
) -> list[Row]:
    """The features' singular values, and how an attack aligns with their vectors (Fig. 2).

    Args:
        model: its last operation is an affine layer; the features are what that layer is given.
        x: inputs, shape ``(N, *input_shape)``.
        y: their labels, ``(N,)``.
        p: the norm of the attack.
        eps: its radius.
        rng: of its starts.
        reference: another model, whose singular vectors the same perturbations are compared with.

    Returns:
        :func:`onr.measurements.spectrum.spectrum` describes the rows.

    Raises:
        OnrError: the model does not fit ``x``, or has no last affine layer.

    Example:
        >>> import onr, torch
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> x = torch.rand(5, 3)
        >>> rows = onr.measure.spectrum(model, x, model(x).argmax(1), p=2, eps=0.1)
        >>> rows[0]["quantity"], rows[0]["rank"], rows[0]["images"]
        ('singular value', 1, 5)

    """
    network, x, labels = _prepared(model, x, y)
    other = None if reference is None else network_of(reference, x[:FIRST])
    return measurements.spectrum(
        network, x, labels, p=norm(p), eps=radius(eps), seed=_seed(rng), reference=other
    )


def alignment(
    model: Any,
    x: Any,
    y: Array | None = None,
    /,
    *,
    p: NormLike,
    eps: Radii,
    rng: RngLike = None,
) -> list[Row]:
    """How perturbations align with the logits' dominant singular vector, by radius (Fig. 8).

    Args:
        model: whose whole Jacobian is formed, by d products.
        x: inputs, shape ``(N, *input_shape)``.
        y: their labels, ``(N,)``.
        p: the norm of the attack.
        eps: its radius, or several.
        rng: of its starts.

    Returns:
        :func:`onr.measurements.alignment.alignment` describes the rows.

    Raises:
        OnrError: the model does not fit ``x``.

    Example:
        >>> import onr, torch
        >>> model, x = torch.nn.Linear(3, 2), torch.rand(4, 3)
        >>> rows = onr.measure.alignment(model, x, model(x).argmax(1), p=2, eps=0.1)
        >>> [(row["quantity"], row["direction"]) for row in rows][:2]
        [('cosine', 'adversarial'), ('correlation', 'adversarial')]

    """
    network, x, labels = _prepared(model, x, y)
    return measurements.alignment(network, x, labels, p=norm(p), eps=_radii(eps), seed=_seed(rng))


def linearity(
    model: Any,
    x: Any,
    y: Array | None = None,
    /,
    *,
    p: NormLike,
    eps: Radii,
    rng: RngLike = None,
) -> list[Row]:
    """How far the features are linear, and their largest singular value by distance (Fig. 4).

    Args:
        model: its last operation is an affine layer; the features are what that layer is given.
        x: inputs, shape ``(N, *input_shape)``.
        y: their labels, ``(N,)``.
        p: the norm of the attack.
        eps: its radius, or several.
        rng: of its starts.

    Returns:
        :func:`onr.measurements.linearity.linearity` describes the rows.

    Raises:
        OnrError: the model does not fit ``x``, or has no last affine layer.

    Example:
        >>> import onr, torch
        >>> from torch import nn
        >>> model, x = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.rand(5, 3)
        >>> rows = onr.measure.linearity(model, x, model(x).argmax(1), p=2, eps=[0.1])
        >>> sorted({row["quantity"] for row in rows})
        ['deviation', 'relative deviation', 'sigma_1']

    """
    network, x, labels = _prepared(model, x, y)
    return measurements.linearity(network, x, labels, p=norm(p), eps=_radii(eps), seed=_seed(rng))


def activations(
    model: Any,
    x: Any,
    y: Array | None = None,
    /,
    *,
    eps: Radii,
    around: str = "data",
    direction: str = "adversarial",
    rng: RngLike = None,
) -> list[Row]:
    """How many ReLUs are in the same state at ``x`` and at ``x + z``, by ``||z||_2`` (Fig. 5).

    Args:
        model: with ReLUs.
        x: inputs, shape ``(N, *input_shape)``.
        y: their labels, ``(N,)``.
        eps: the length of ``z``, or several.
        around: ``data``, the inputs; or ``noise``, uniform ones in their place.
        direction: ``adversarial`` or ``random``.
        rng: of the attack's starts.

    Returns:
        :func:`onr.measurements.activations.activations` describes the rows.

    Raises:
        OnrError: the model does not fit ``x``, or has no ReLU.

    Example:
        >>> import onr, torch
        >>> from torch import nn
        >>> model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.rand(5, 3)
        >>> rows = onr.measure.activations(model, x, model(x).argmax(1), eps=1e-9)
        >>> rows[0]["quantity"], rows[0]["mean"]
        ('shared', 1.0)

    """
    network, x, labels = _prepared(model, x, y)
    return measurements.activations(
        network,
        x,
        labels,
        eps=_radii(eps),
        around=around,
        direction=direction,
        seed=_seed(rng),
    )


def directions(
    model: Any,
    x: Any,
    y: Array | None = None,
    /,
    *,
    p: NormLike,
    q: NormLike,
    eps: float | str,
    rng: RngLike = None,
) -> list[Row]:
    """How an attack on the lq distance, Eq. 12 and the maximiser of the (p, q) norm relate.

    Args:
        model: with at most 64 outputs.
        x: inputs, shape ``(N, *input_shape)``.
        y: their labels, on which nothing depends; may be left out.
        p: the norm of the attack, an lp norm.
        q: the norm of the logits, an lp norm.
        eps: the radius.
        rng: of the starts.

    Returns:
        :func:`onr.measurements.directions.directions` describes the rows.

    Raises:
        OnrError: the model does not fit ``x``.

    Example:
        >>> import onr, torch
        >>> rows = onr.measure.directions(torch.nn.Linear(3, 2), torch.rand(4, 3), p=2, q=2, eps=1)
        >>> rows[0]["quantity"], round(rows[0]["mean"], 3)
        ('power method', 1.0)

    """
    network, x, labels = _prepared(model, x, y, needs_labels=False)
    return measurements.directions(
        network, x, labels, p=norm(p), q=norm(q), eps=radius(eps), seed=_seed(rng)
    )
