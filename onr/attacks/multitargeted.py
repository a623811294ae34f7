"""Ascent on the margin, then towards the nearest classes; broken examples leave at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from onr.arrays import array_namespace, column, in_float32, like, on_cpu, put, safe, to_numpy
from onr.errors import ImageError, NotAvailableError, OnrError
from onr.feasible import Bounds, ascent, boxed, require_inside, require_radius, require_range
from onr.losses import Margin, one_hot, require_values
from onr.norms import as_norm
from onr.protocols import Array, Network, Norm
from onr.typing import Rng

__all__ = ["ROUNDING", "MultiTargeted"]

MARGIN = Margin()
CANDIDATES = 10
"""The most classes that are ordered by their first-order radius: those of largest logits."""
LEAST = 3
"""The passes of one step: at the input, at the start, and where the step leads."""
REACH = 1.5
"""A class of larger first-order radius, in units of the radius, is left to the larger radii."""
MOMENTUM = 0.25
"""The share of a step that goes on as the one before, as in AutoAttack's ascent."""
ROUNDING = 64
"""A margin of so many units of rounding of the largest logit is a wrong prediction for sure."""
UNKNOWN = -1


class MultiTargeted:
    """Projected gradient ascent on the margin, then towards the classes that are near.

    An example is attacked until the network's prediction is wrong, and leaves the batch at once. A
    round has two parts:

    1. ``steps`` steps along the duality map of the margin's gradient, from a random start, which
       keep to the box. The step size decays from ``eps`` to 0 like a cosine, and a quarter of each
       step is the step before (momentum, as in Croce and Hein 2020).
    2. As many steps towards each of the ``targets`` nearest classes, one after the other, by the
       difference of two logits, ``f_j - f_y``. A class is near if its first-order radius at the
       clean input is small: ``(f_y - f_j) / ||grad(f_y - f_j)||_{p*}``, which takes a backward pass
       for each of the ten classes of largest logits.

    What is left goes through further rounds, from other starts. An example that the network
    misclassifies from the beginning is returned as it is. A broken one is returned at the iterate
    that broke it, any other at the iterate of largest margin. Its result does not depend on the
    other examples of the batch, except by rounding.

    This is an upper bound on robust accuracy, close to that of AutoAttack at a fraction of its
    cost on networks that do not hide their gradients (docs/measuring.md); it has no black-box
    search, as AutoAttack's Square.

    Args:
        p: the norm of the ball; a number is an lp norm. A norm without a sampler starts from the
            clean input, in a single round.
        eps: the radius, in the units of the input; 0 returns the input.
        steps: how many steps from each start and towards each class.
        restarts: how many rounds; 1 if not given, or as many as ``passes`` allows.
        targets: towards how many classes each round goes.
        passes: the most passes (forward and backward, or one alone) of an example; ``None`` for no
            limit. A part of a round that would exceed the limit is left out.
        targeted: lead to the labels, by the margin of the label alone.
        bounds: the box of valid inputs, to which each step is clipped; ``None`` for no box.

    Raises:
        OnrError: an argument is out of its range.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)), dtype="float64")
        >>> attack = MultiTargeted(p=2, eps=0.5)
        >>> x, y = np.full((4, 3), 0.5), np.zeros(4, int)
        >>> moved = attack(network, x, y, rng=np.random.default_rng(0))
        >>> bool((attack.p(moved - x) < 0.5 + 1e-9).all())
        True

    """

    def __init__(
        self,
        *,
        p: Norm | float,
        eps: float,
        steps: int = 40,
        restarts: int | None = None,
        targets: int = 3,
        passes: int | None = None,
        targeted: bool = False,
        bounds: Bounds | None = (0.0, 1.0),
    ) -> None:
        if steps < 1 or (restarts is not None and restarts < 1):
            raise OnrError(f"steps = {steps}, restarts = {restarts}: expected at least 1 of each")
        if targets < 0:
            raise OnrError(f"targets = {targets}: expected at least 0")
        if passes is not None and passes < LEAST:
            raise OnrError(f"passes = {passes}: expected at least {LEAST}, which are one step")
        self.p, self.eps, self.bounds = as_norm(p), require_radius(eps), bounds
        self.targets, self.targeted = 0 if targeted else targets, targeted
        usual = 1 if passes is None else math.inf
        self.restarts: float = usual if restarts is None else restarts
        self.passes: float = math.inf if passes is None else passes
        self.steps = steps if passes is None else min(steps, passes - LEAST + 1)

    def __call__(self, network: Network, x: Array, y: Array, /, *, rng: Rng) -> Array:
        """Return the perturbed inputs, inside the ball (up to rounding) and inside the box.

        Raises:
            OnrError: an input is outside the box, a label is no class, or a logit or the gradient
                of an image is NaN.

        """
        return self.further(network, x, y, x, np.arange(len(x)), more=False, memory={}, rng=rng)

    def further(
        self,
        network: Network,
        x: Array,
        y: Array,
        moved: Array,
        left: np.ndarray,
        /,
        *,
        more: bool,
        memory: dict[str, Any],
        rng: Rng,
    ) -> Array:
        """Go on from perturbed inputs that were found at a smaller radius.

        An example that has moved first goes on from where it stood, stretched to the new radius,
        with fewer steps; one that has not starts at random. If ``more`` radii follow, a class whose
        first-order radius is more than one and a half times the radius is left to the larger radii,
        unless the margin did not grow since the radius before: there the gradient says nothing.

        Args:
            network: the network to attack.
            x: the inputs, inside the box.
            y: the labels to lead away from, or the classes to lead to.
            moved: the perturbed inputs so far, shaped as ``x``, inside the ball; ``x`` if none.
            left: the numbers of the examples to attack. The others are returned as they moved.
            more: whether the caller goes on to a larger radius.
            memory: what is kept of these examples from radius to radius: empty at the first.
            rng: of the random starts.

        Raises:
            OnrError: an input is outside the box, a label is no class, or a logit or the gradient
                of an image is NaN.

        """
        require_inside(x, self.bounds)
        require_range(x, eps=self.eps)
        search = _Search(self, network, x, y, moved, memory)
        if len(left):
            search.run(left, more=more, rng=rng)
        return search.best


class _Search:
    """The state of one batch: the best iterate of each example, and what is known of it."""

    def __init__(
        self,
        attack: MultiTargeted,
        network: Network,
        x: Array,
        y: Array,
        moved: Array,
        memory: dict[str, Any],
    ) -> None:
        self.attack, self.network, self.x, self.y = attack, network, x, y
        self.best = boxed(x, moved - x, attack.bounds)
        self.value = np.full(len(x), -math.inf)
        """The margin at the best iterate."""
        self.spent = np.zeros(len(x), dtype=int)
        """The passes so far."""
        shape = len(x), attack.targets
        self.goals: np.ndarray = memory.setdefault("goals", np.full(shape, UNKNOWN))
        """The nearest classes."""
        self.radii: np.ndarray = memory.setdefault("radii", np.full(shape, math.inf))
        """The first-order radii of these."""
        self.candidates = 0
        """How many classes are compared to find these."""

    def run(self, left: np.ndarray, *, more: bool, rng: Rng) -> None:
        """Attack these examples until they are broken, or the rounds or passes are over."""
        attack = self.attack
        left = self.see(left, self.best[left], self._logits(left))
        if attack.eps == 0:
            return
        moved = to_numpy(in_float32(attack.p(self.best - self.x)))[left] > 0
        before = self.value.copy() if more else None
        few = max(1, attack.steps // 2)
        start, another = self.start(rng)
        cold = self.round(left[~moved], start, few if more else attack.steps, before=before)
        warm = self.round(left[moved], start, few, before=before, on=True)
        left, rounds, spent = np.sort(np.concatenate([cold, warm])), 1, -1
        while another and len(left) and rounds < attack.restarts and self.spent.sum() > spent:
            spent = self.spent.sum()
            left = self.round(left, self.start(rng)[0], attack.steps)
            rounds += 1

    def start(self, rng: Rng) -> tuple[Array, bool]:
        """A random start for all examples, whichever are left; whether there can be another."""
        attack = self.attack
        try:
            drawn = attack.p.sample_ball(rng, tuple(self.x.shape))
        except NotAvailableError:
            return self.x, False
        delta = attack.eps * like(drawn, self.x)
        return boxed(self.x, delta, attack.bounds, attack.p), True

    def round(
        self,
        who: np.ndarray,
        start: Array,
        steps: int,
        *,
        before: np.ndarray | None = None,
        on: bool = False,
    ) -> np.ndarray:
        """Ascend on the margin, then towards the nearest classes; return who is not broken.

        Args:
            who: the numbers of the examples.
            start: where each begins.
            steps: from the start, and towards each class.
            before: the margins at the radius before, if far classes may wait.
            on: whether the first ascent goes on from where each example stood, stretched to the
                radius, which takes two fifths of the steps.

        """
        if on:
            who = self.ascend(who, self.stretched(), max(1, 2 * steps // 5), scale=0.5)
        else:
            who = self.ascend(who, start, steps)
        if self.attack.targets:
            self.order(who)
        near = self.goals != UNKNOWN
        if before is not None:
            flat = self.value <= before
            near &= (self.radii <= REACH * self.attack.eps) | flat[:, None]
        for goals, tried in zip(self.goals.T, near.T, strict=True):
            found = self.ascend(who[tried[who]], start, steps, goals=goals)
            who = np.sort(np.concatenate([who[~tried[who]], found]))
        return who

    def stretched(self) -> Array:
        """The best iterates, stretched to the radius."""
        attack, delta = self.attack, self.best - self.x
        factor = column(attack.eps / safe(attack.p(delta)), delta)
        return boxed(self.x, delta * factor, attack.bounds, attack.p)

    def ascend(
        self,
        who: np.ndarray,
        start: Array,
        steps: int,
        *,
        scale: float = 1.0,
        goals: np.ndarray | None = None,
    ) -> np.ndarray:
        """Take projected steps that decay from ``scale`` times the radius; return who remains.

        Args:
            who: the numbers of the examples, of whom those take part whose passes suffice.
            start: where each example of the batch begins.
            steps: how many steps.
            scale: the first step, in units of the radius.
            goals: the class to lead each example of the batch to; the best other class if not
                given.

        """
        attack = self.attack
        fits = self.spent[who] + steps + 1 <= attack.passes
        rest, who = who[~fits], who[fits]
        moved, x, labels = start[who], self.x[who], self.y[who]
        before = moved
        for k in range(steps):
            if not len(who):
                break
            with _naming(who):
                here = self.network.linearize(moved, jvp=False)
                kept = self.see(who, moved, here.value)
                if not len(kept):
                    who = kept
                    break
                u = self._direction(here.value, labels, None if goals is None else goals[who])
                g = here.vjp(u)
            if len(kept) < len(who):
                rows = np.searchsorted(who, kept)
                who, moved, x, labels, g = kept, moved[rows], x[rows], labels[rows], g[rows]
                before = before[rows]
            length = scale * attack.eps * (1 + math.cos(math.pi * k / steps)) / 2
            late = 2 * k >= steps
            step = ascent(attack.p, g, moved, length, attack.bounds, settling=late)
            if k > 0:
                step = (1 - MOMENTUM) * step + MOMENTUM * (moved - before)
            before = moved
            delta = attack.p.project_ball(moved - x + step, attack.eps)
            moved = boxed(x, delta, attack.bounds, attack.p)
        if len(who):
            with _naming(who):
                who = self.see(who, moved, self.network(moved))
        return np.sort(np.concatenate([rest, who]))

    def see(self, who: np.ndarray, moved: Array, logits: Array) -> np.ndarray:
        """Keep the best iterates, and count a pass; return who is not broken."""
        labels, wide = self.y[who], in_float32(logits)
        xp = array_namespace(wide)
        margin = MARGIN.value(wide, labels=labels)
        if not on_cpu(margin):
            require_values(margin, logits, labels)
        largest = xp.max(xp.where(xp.isfinite(wide), xp.abs(wide), 0.0), axis=1)
        slack = ROUNDING * xp.finfo(wide.dtype).eps * to_numpy(largest).astype(np.float64)
        value = to_numpy(-margin if self.attack.targeted else margin).astype(np.float64)
        rows = np.flatnonzero(value >= self.value[who])
        self.best = put(self.best, who[rows], moved[rows])
        self.value[who[rows]] = value[rows]
        self.spent[who] += 1
        self.candidates = min(CANDIDATES, logits.shape[1] - 1)
        kept: np.ndarray = who[value <= slack]
        return kept

    def order(self, who: np.ndarray) -> None:
        """Find the nearest classes of those examples whose classes are not known yet."""
        who = who[(self.goals[who] == UNKNOWN).all(axis=1)]
        who = who[self.spent[who] + self.candidates <= self.attack.passes]
        if not len(who):
            return
        x, labels = self.x[who], self.y[who]
        with _naming(who):
            here = self.network.linearize(x, jvp=False)
            logits = here.value
            z = to_numpy(in_float32(logits)).astype(np.float64)
            rows, own = np.arange(len(who)), to_numpy(labels)
            gaps = z[rows, own][:, None] - z
            gaps[rows, own] = np.inf
            classes = gaps.argsort(axis=1, kind="stable")[:, : self.candidates]
            radii = np.full(classes.shape, np.inf)
            for place, goal in enumerate(classes.T):
                g = here.vjp(one_hot(like(goal, labels), logits) - one_hot(labels, logits))
                steepness = to_numpy(in_float32(self.attack.p.dual(g))).astype(np.float64)
                with np.errstate(divide="ignore", invalid="ignore"):
                    radii[:, place] = gaps[rows, goal] / steepness
        nearest = radii.argsort(axis=1, kind="stable")
        ordered = np.take_along_axis(classes, nearest, axis=1)
        masked = np.isinf(np.take_along_axis(gaps, ordered, axis=1))
        found = np.where(masked, UNKNOWN, ordered)[:, : self.attack.targets]
        self.goals[who, : found.shape[1]] = found
        self.radii[who, : found.shape[1]] = np.take_along_axis(radii, nearest, axis=1)[
            :, : found.shape[1]
        ]
        self.spent[who] += self.candidates

    def _logits(self, who: np.ndarray) -> Array:
        with _naming(who):
            return self.network(self.best[who])

    def _direction(self, logits: Array, labels: Array, goals: np.ndarray | None) -> Array:
        if goals is not None:
            return one_hot(like(goals, labels), logits) - one_hot(labels, logits)
        ascent = MARGIN.gradient(logits, labels=labels)
        return -ascent if self.attack.targeted else ascent


@contextmanager
def _naming(who: np.ndarray) -> Iterator[None]:
    """Let an error name an example by its number in the whole batch."""
    try:
        yield
    except ImageError as error:
        raise ImageError(int(who[error.index]), error.what) from None
