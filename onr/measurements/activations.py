"""How much of the activation pattern two inputs share (Figs. 5 and 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onr.arrays import array_namespace, flatten, like
from onr.errors import OnrError
from onr.measurements.batches import Inputs, Values
from onr.measurements.perturbations import adversarial, random_of_length
from onr.norms import LpNorm
from onr.protocols import BackendNetwork
from onr.records import statistics
from onr.typing import Array, Row

__all__ = ["activations"]

BATCH = 50


def activations(
    network: BackendNetwork,
    x: Inputs,
    y: Array,
    /,
    *,
    eps: Sequence[float],
    around: str = "data",
    direction: str = "adversarial",
    seed: int = 0,
) -> list[Row]:
    """The share of hidden units that are in the same state at ``x`` and at ``x + z``.

    There are rows of two quantities for each ``eps = ||z||_2``. ``shared`` is the share of units
    that have the same state, on or off, at both inputs; it is 1 at ``z = 0``. ``on in both`` is the
    share of units that are on at both inputs, the paper's formula taken literally; at ``z = 0`` it
    is the share of units that are on at ``x``.

    Args:
        network: a network with ReLUs.
        x: inputs, ``(N, *input_shape)``, pixels in [0, 1].
        y: the labels of the inputs, which the attack leads away from.
        eps: the l2 lengths of ``z``.
        around: ``data``, the inputs themselves; or ``noise``, as many inputs uniform in [0, 1].
        direction: ``adversarial``, the paper's l2 attack; or ``random``, uniform on the sphere.
        seed: the seed of the attack's starts. Noise and random directions do not depend on it.

    Raises:
        OnrError: ``around`` or ``direction`` is another word, or the network has no ReLU.

    Example:
        >>> from onr.architectures import Affine, Architecture, ReLU
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(4), ReLU(), Affine(2))))
        >>> x, y = np.random.default_rng(0).random((4, 3)), np.zeros(4, int)
        >>> rows = activations(network, x, y, eps=[1e-9])
        >>> rows[0]["quantity"], rows[0]["mean"]
        ('shared', 1.0)

    """
    for name, value, known in (
        ("around", around, ("data", "noise")),
        ("direction", direction, ("adversarial", "random")),
    ):
        if value not in known:
            raise OnrError(f"{name} = {value!r}: expected {' or '.join(known)}")
    found = Values[tuple[str, float]]()
    for index, images, labels in found.batches(x, y, BATCH):
        if around == "noise":
            images = like(np.random.default_rng([index, 2]).random(tuple(images.shape)), images)
        here = network.activation_pattern(images)
        xp = array_namespace(images)
        for radius in dict.fromkeys(eps):
            if direction == "random":
                length = xp.ones_like(flatten(images)[:, 0]) * radius
                z = random_of_length(images, length, seed=index)
            else:
                z = adversarial(
                    network, images, labels, p=LpNorm(2), eps=radius, seed=(seed, index)
                )
            there = network.activation_pattern(images + z)
            for quantity, same in (("shared", here == there), ("on in both", here & there)):
                found.add((quantity, radius), xp.mean(xp.astype(same, xp.float64), axis=1))
    return [
        {"quantity": quantity, "around": around, "direction": direction, "eps": radius}
        | statistics(values)
        for (quantity, radius), values in found.items()
    ]
