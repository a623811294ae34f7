"""No attack returns NaN, and none counts a loss that is NaN."""

from __future__ import annotations

import numpy as np

from onr.arrays import array_namespace, device, flatten, to_numpy
from onr.errors import ImageError
from onr.protocols import Array, Loss, Network

__all__ = ["require_sound"]


def require_sound(
    moved: Array, value: Array | None, /, *, network: Network, x: Array, y: Array, loss: Loss
) -> Array:
    """Return perturbed inputs that are numbers, and whose loss is a number.

    Losses on the CPU refuse NaN themselves. On another device this is the one look at the values
    of a whole attack.

    Args:
        moved: the perturbed inputs, shaped as ``x``.
        value: the loss of each example, ``(batch,)``, NaN where it was NaN at any iterate; ``None``
            if the attack does not know it.
        network: the network that was attacked.
        x: the inputs.
        y: the labels.
        loss: the loss that the attack ascended.

    Raises:
        ImageError: an entry or a value of an image is NaN; the message says why.

    Example:
        >>> from onr import CrossEntropy
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> x, given = np.zeros((1, 3)), {"network": network, "y": np.array([0])}
        >>> require_sound(x, None, x=x, loss=CrossEntropy(), **given)
        array([[0., 0., 0.]])

    """
    if moved.dtype == object or not len(moved) or str(device(moved)) == "meta":
        return moved
    xp = array_namespace(moved)
    with np.errstate(over="ignore", invalid="ignore"):
        sound = xp.isfinite(xp.sum(moved))  # if the sum overflows, each entry is looked at
    if bool(sound if value is None else sound & ~xp.any(xp.isnan(value))):
        return moved
    wrong = xp.any(xp.isnan(flatten(moved)), axis=1)
    if value is not None:
        wrong = wrong | xp.isnan(value)
    if not bool(xp.any(wrong)):
        return moved
    index = int(to_numpy(wrong).argmax())
    one = slice(index, index + 1)
    logits, labels = to_numpy(network(x[one])), to_numpy(y)[one]
    try:
        loss.value(logits, labels=labels, clean=logits)
    except ImageError as error:
        raise error.after(index) from None
    raise ImageError(
        index,
        "the loss or its gradient is nan during the attack: expected a network that gives numbers "
        "wherever the attack goes",
    )
