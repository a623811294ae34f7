"""The search that continues from one visit of an example to the next, for one vjp a visit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from onr.arrays import array_namespace, column, like, max_abs, sent
from onr.errors import OnrError
from onr.jacobians.iterations import pull_back
from onr.losses import CrossEntropy
from onr.protocols import Array, Network, Norm
from onr.regularizers.searches import Direction
from onr.typing import Kept, Rng

__all__ = ["WarmStart", "usual_noise"]

CROSS_ENTROPY = CrossEntropy()


def usual_noise(norm: Norm, /) -> float:
    """The usual radius of the noise in the ball of a norm, in eps: 2 for l-inf, 1 for others.

    Example:
        >>> from onr import LpNorm
        >>> usual_noise(LpNorm(math.inf)), usual_noise(LpNorm(2))
        (2.0, 1.0)

    """
    return 2.0 if getattr(norm, "p", None) == math.inf else 1.0


@dataclass(frozen=True)
class WarmStart:
    """One half round of Eq. 12 a visit, from noise, led by memory and by the loss in turn.

    **What is remembered.** Eq. 12 alternates ``v = duality map of J^T u`` and ``u = gradient of
    ||.||_q at J v``. Between two visits of an example the network changes little, so that half a
    round at each visit, from the ``u`` of the last visit, follows it. ``v`` costs one vjp. The next
    ``u`` costs nothing: the objective computes the change of the logits anyway. ``u`` has the shape
    of the logits, ten floats for ten classes, and a new crop or mirror image of the example can use
    that of another. An example without a last visit, or whose logits did not change then, starts
    from a Gaussian ``u``.

    **Why it stays up.** A network can learn to bend between ``x`` and the one point at which
    training looks, and is then robust at that point alone. Two things keep it from that. ``J`` is
    taken at ``x`` plus noise, uniform in the ball of radius ``noise eps``, so that the point cannot
    be foreseen; the step of length ``eps`` begins there, and the change is paid from the clean
    ``f(x)``, not from the noisy start. And in a ``share`` of the examples, drawn anew in every
    step, ``u`` is the direction of the loss, ``softmax - label``, in place of the remembered one:
    the direction that an attack would take there.

    Args:
        noise: the radius of the noise, in eps; 0 for none.
        share: the probability that an example is led by the loss, in [0, 1]. Where the labels are
            not known, the predicted classes stand for them. With ``noise = share = 0`` this is half
            a round of the paper's Eq. 12.

    Raises:
        OnrError: an argument is out of range.

    Example:
        >>> from onr import LpNorm
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> weights = {"0.weight": np.array([[1.0, 0.0], [0.0, 2.0]]), "0.bias": np.zeros(2)}
        >>> network = NumpyBackend().build(Architecture((2,), (Affine(2),)), parameters=weights)
        >>> x, u = np.zeros((1, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32)
        >>> given = {"p": LpNorm(1), "q": LpNorm(1), "eps": 0.5, "labels": None, "memory": u}
        >>> WarmStart(share=0)(network, x, rng=np.random.default_rng(0), **given).v
        array([[0., 1.]], dtype=float32)

    """

    noise: float = 2.0
    share: float = 0.5
    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.noise < math.inf:
            raise OnrError(f"noise = {self.noise:g}: expected a finite number >= 0")
        if not 0 <= self.share <= 1:
            raise OnrError(f"share = {self.share:g}: expected a number in [0, 1]")

    @property
    def settings(self) -> dict[str, str | float]:
        """The name of the search, and its arguments."""
        return {"search": "warm", "noise": self.noise, "share": self.share}

    def __call__(
        self,
        network: Network,
        x: Array,
        /,
        *,
        p: Norm,
        q: Norm,
        eps: float,
        labels: Array | None,
        rng: Rng,
        memory: Kept,
    ) -> Direction:
        """The direction ``v``, the duality map of ``J^T u`` at ``x`` plus noise.

        Raises:
            OnrError: what is remembered has another number of outputs.
            NotAvailableError: the norm ``p`` has no sampler, and there is noise.

        """
        start = x
        if self.noise > 0:
            start = x + self.noise * eps * like(p.sample_ball(rng, tuple(x.shape)), x)
        J = network.linearize(start, jvp=False)
        if memory is not None and tuple(memory.shape[1:]) != J.output_shape:
            raise OnrError(
                f"{memory.shape[1]} outputs are remembered of each example, and the model has "
                f"{J.output_shape[0]}: each model needs a memory of its own"
            )
        xp = array_namespace(x)
        u = like(rng.standard_normal((x.shape[0], *J.output_shape)), x)
        if memory is not None:
            u = xp.where(column(max_abs(memory) > 0, memory), memory, u)
        if self.share > 0:
            logits = J.value
            known = xp.argmax(logits, axis=1) if labels is None else labels
            led = sent(rng.random(x.shape[0]) < self.share, x)
            u = xp.where(column(led, u), CROSS_ENTROPY.direction(logits, labels=known), u)
        pulled = pull_back(J, u)
        v, slope = p.duality_map(pulled), p.dual(pulled)
        if start is x:
            return Direction(v, u, slope, "lower", start=x)
        return Direction(v, u, slope, "lower", start=start, gradient=pulled)
