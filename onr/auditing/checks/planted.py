"""Whether the attack finds adversarial examples that exist by construction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onr.arrays import array_namespace, column, inner, like
from onr.attacks.multitargeted import MultiTargeted
from onr.auditing.base_check import BaseCheck
from onr.auditing.block import Block
from onr.auditing.chunked_network import ChunkedNetwork
from onr.auditing.intervals import wilson
from onr.auditing.probes import floats, noise
from onr.auditing.protocols import Evidence, Flag
from onr.errors import OnrError
from onr.protocols import Linearization, Network
from onr.typing import Array

__all__ = ["Planted", "PlantedNetwork"]

POINTS = 16
LEAST = 1e-4
FEWEST = 10


class PlantedNetwork:
    """Two logits, 0 and ``<w, phi(x)> - b``, with a w and b of its own for each of some images.

    An input belongs to the image that is nearest to it in l2.

    Args:
        phi: the features, ``(batch, features)``.
        x: the images, ``(n, *input_shape)``.
        w: the weights, ``(n, features)``.
        b: the thresholds, ``(n,)``.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> phi = NumpyBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")
        >>> x = np.eye(3)[:2]
        >>> planted = PlantedNetwork(phi, x, np.ones((2, 2)), phi(x).sum(axis=1))
        >>> planted(x).tolist()
        [[0.0, 0.0], [0.0, 0.0]]

    """

    def __init__(self, phi: Network, x: Array, w: Array, b: Array) -> None:
        self.phi, self.w, self.b = phi, w, b
        self.input_shape = phi.input_shape
        self._images = floats(x).reshape(len(x), -1)

    def __call__(self, x: Array, /) -> Array:
        """The two logits, ``(batch, 2)``."""
        return self._logits(self.phi(x), self._rows(x))

    def linearize(self, x: Array, /, *, jvp: bool = True) -> _Planted:
        """The linearisation, for ``J^T u`` alone."""
        return _Planted(self, self.phi.linearize(x, jvp=False), self._rows(x))

    def _rows(self, x: Array) -> np.ndarray:
        points = floats(x).reshape(len(x), 1, -1)
        return np.array([((self._images - point) ** 2).sum(axis=1).argmin() for point in points])

    def _logits(self, features: Array, rows: np.ndarray) -> Array:
        score = inner(self.w[rows], features) - self.b[rows]
        xp = array_namespace(score)
        return xp.stack([xp.zeros_like(score), score], axis=1)


class _Planted:
    def __init__(self, network: PlantedNetwork, here: Linearization, rows: np.ndarray) -> None:
        self._w, self._here = network.w[rows], here
        self.value = network._logits(here.value, rows)
        self.input_shape, self.output_shape = network.input_shape, (2,)

    def jvp(self, v: Array, /) -> Array:
        raise OnrError("this linearisation was made for J^T u alone")

    def vjp(self, u: Array, /) -> Array:
        return self._here.vjp(u[:, 1:] * self._w)


class Planted(BaseCheck):
    """The share of planted adversarial examples that the attack of the audit finds.

    What is planted, at each of the first 50 images x: phi are the inputs of the last affine layer,
    or the logits where there is no such layer. Of 16 random points at distance eps from x (clipped
    to the box), x* is the one whose features are furthest from those of x. The planted classifier
    has the logits 0 and ``<w, phi> - b`` with ``w = phi(x*) - phi(x)``, scaled to norm 1; b lies
    midway between the value of ``<w, phi>`` at x* and the largest at x and the other 15 points. So
    x and 15 random points are of the first class, and x*, within eps of x, is of the second: an
    adversarial example exists. (No other point exceeds x*, because ``<w, phi(x_i) - phi(x)>`` is at
    most the distance of the features, which x* has the largest of.) An image whose features move by
    less than 1e-4 of their norm has nothing planted.

    The attack is the audit's, on that classifier. A classifier with the same features that the
    attack can be trusted on has all examples found: Zimmermann et al. ask for 95 %. The flag is
    raised if the upper end of Wilson's interval at 95 % is below that. Sixteen other random points
    say how hard the examples are to find.

    Example:
        >>> from onr.auditing.threat import Threat
        >>> from onr.norms import LpNorm
        >>> columns = {"planted: found": np.zeros(20), "planted: by noise": np.zeros(20)}
        >>> print(Planted().verdict(Evidence(columns, Threat(LpNorm(2), "1"), classes=2)))
        RAISED planted: the attack finds 0 of 20 planted examples, random noise finds 0 of them

    """

    name, summary = "planted", "adversarial examples that exist are not found"
    threshold, images, comparison = 0.95, 50, "below"
    number = "upper end of the interval of the share found"
    source = (
        "Zimmermann et al. (2022), with a linear classifier along one direction of the features"
    )
    meaning = (
        "A classifier on the features of this model was changed so that an adversarial example "
        "exists within eps of each image, and the attack does not find it. It would not find "
        "those of the model itself either: what it leaves is not evidence of robustness."
    )
    remedy = (
        "Change the attack until it finds the planted examples: it has to be adapted to what the "
        "model does to its gradients (see the other flags). Then attack the model with it."
    )

    def look(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """1 where the attack, and where noise, finds the example; NaN where none is planted."""
        threat, rng, x = block.threat, block.rng(self.name), block.x
        try:
            phi: ChunkedNetwork = block.network.features()
        except OnrError:  # the model does not end in an affine layer
            phi = block.network
        xp = array_namespace(x)
        clean = phi(x)
        clean = xp.where(xp.isfinite(clean), clean, 0.0)

        def moves() -> Array:
            """How the features change at 16 random points, ``(16, n, features)``."""
            there = [phi(noise(block, threat.radius, rng)) for _ in range(POINTS)]
            return xp.stack([xp.where(xp.isfinite(z), z, 0.0) - clean for z in there])

        change = moves()
        far = np.sqrt((floats(change) ** 2).sum(axis=2))
        best, rows = far.argmax(axis=0), np.arange(len(block))
        size = far[best, rows]
        w = change[best, rows] / column(like(np.where(size > 0, size, 1), clean), clean)
        along = floats(xp.sum(change * w, axis=2))
        along[best, rows] = 0
        threshold = (along.max(axis=0) + size) / 2
        good = (size - along.max(axis=0)) / 2 > LEAST * np.linalg.norm(floats(clean), axis=1)
        nothing = np.full(len(block), np.nan)
        if not good.any():
            return {"found": nothing, "by noise": nothing}
        by_noise = (floats(xp.sum(moves() * w, axis=2)) > threshold).any(axis=0)
        kept = block.take(good)
        b = inner(w, clean) + like(threshold, clean)
        planted = PlantedNetwork(phi, kept.x, w[good], b[good])
        attack = MultiTargeted(p=threat.p, eps=threat.radius, bounds=threat.bounds)
        first = kept.network.asarray(np.zeros(len(kept), int))
        moved = attack(planted, kept.x, first, rng=rng)
        found = floats(planted(moved))[:, 1] > 0
        if phi is not block.network:  # the passes of the features are passes of the network
            block.network.passes += phi.passes
        return {
            "found": block.column(kept, found),
            "by noise": block.column(kept, by_noise[good]),
        }

    def verdict(self, evidence: Evidence, /) -> Flag:
        """Raised if the attack finds significantly less than 95 %."""
        found, by_noise = self.seen(evidence, "found"), self.seen(evidence, "by noise")
        if len(found) < FEWEST:
            return self.unknown(
                f"at {len(found)} images an example could be planted: expected {FEWEST}"
            )
        hits = int(found.sum())
        told = f"the attack finds {hits} of {len(found)} planted examples, random noise finds "
        told += f"{int(by_noise.sum())} of them"
        return self.flag(wilson(hits, len(found))[1], len(found), told)
