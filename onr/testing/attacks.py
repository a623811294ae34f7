"""The laws of an attack."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from onr.arrays import array_namespace, to_numpy
from onr.errors import OnrError
from onr.losses import CrossEntropy
from onr.protocols import Attack, Linearization, Network, Norm
from onr.testing.laws import TOLERANCE, Law, Laws, at, law, require
from onr.typing import Array

__all__ = ["attack_laws", "check_attack"]

FEW, MANY = 1, 3
"""The numbers of steps and of restarts that are compared."""
SMALL = 0.01
"""At this part of the radius they are compared: an attack may stop early at what is broken."""


def check_attack(
    make_attack: Callable[..., Attack],
    network: Network,
    x: Array,
    y: Array,
    *,
    p: Norm,
    eps: float,
) -> None:
    """Check an attack: where its results lie, what they depend on, and that it uses its settings.

    ``onr_torch.testing.check_attack`` also checks what an attack does to a torch module.

    Args:
        make_attack: the attack as a plugin registers it, ``MyAttack(p=, eps=, bounds=, ...)``,
            whose ``steps`` and ``restarts`` are then tried too; or a function of the radius that
            makes one. The radius may be 0; the pixels are in [0, 1].
        network: the network to attack, in float64.
        x: two or more inputs in [0, 1], shape ``(batch, *input_shape)``.
        y: the labels of the inputs.
        p: the norm of the ball.
        eps: the radius of the ball.

    Raises:
        AssertionError: a law is broken; the message says which, and at which input.

    Example:
        >>> from onr.attacks.projected_gradient import ProjectedGradientAscent
        >>> from onr.norms import LpNorm
        >>> from onr.testing import small_network
        >>> network, x, y = small_network()
        >>> check_attack(ProjectedGradientAscent, network, x, y, p=LpNorm(2), eps=0.1)

    """
    require(attack_laws(make_attack, network, x, y, p=p, eps=eps))


def attack_laws(
    make_attack: Callable[..., Attack],
    network: Network,
    x: Array,
    y: Array,
    *,
    p: Norm,
    eps: float,
) -> Laws:
    """The laws that :func:`check_attack` checks, one after the other."""
    takes = inspect.signature(make_attack).parameters
    registered = "p" in takes
    make = _maker(make_attack, takes, p) if registered else make_attack
    before, xp = to_numpy(x).copy(), array_namespace(x)

    def run(attack: Attack, x: Array = x, network: Network = network) -> tuple[np.ndarray, Laws]:
        """What an attack found, and the laws of every result."""
        given = to_numpy(x).copy()
        result = attack(network, x, y, rng=np.random.default_rng(0))
        return to_numpy(result), _feasible(given, x, result, p, eps)

    attack = make(eps)
    found, laws = run(attack)
    yield from laws
    yield law("the input is left alone", to_numpy(x) == before, x=before)
    yield law("one seed, one result", run(attack)[0] == found, x=before)
    still = to_numpy(make(0.0)(network, x, y, rng=np.random.default_rng(0)))
    yield law("eps = 0 returns the input", still == before, x=before, found=still)
    if isinstance(x, np.ndarray):
        yield from at("float32 inputs", run(attack, xp.astype(x, xp.float32))[1])
    try:
        flat = list(run(attack, x, _Flat(network, x))[1])
    except OnrError as error:
        flat = []
        yield Law("where the gradient is zero", skipped=f"it takes no network but its own: {error}")
    for each in flat:
        yield Law(f"where the gradient is zero: {each.text}", each.broken)
    others = xp.concat([1 - x[i : i + 1] if i % 2 else x[i : i + 1] for i in range(len(x))])
    apart = np.abs(run(attack, others)[0] - found)
    apart[1::2] = 0
    alone = "an example's result does not depend on the others"
    yield law(alone, apart <= TOLERANCE, x=before)
    try:
        attack(network, x - 2, y, rng=np.random.default_rng(0))
        refused = False
    except OnrError:
        refused = True
    yield law("inputs outside [0, 1] are refused", refused, x="x - 2")
    for name in ("steps", "restarts"):
        if registered and name in takes:
            yield from _setting(name, make, network, x, y, SMALL * eps)


def _maker(
    target: Callable[..., Attack], takes: Mapping[str, inspect.Parameter], p: Norm
) -> Callable[..., Attack]:
    """Make the attack from a radius as ``onr`` does: with what it names, and no more."""
    given: dict[str, Any] = {"p": p, "bounds": (0.0, 1.0)}
    given = {name: value for name, value in given.items() if name in takes}
    if "loss" in takes and takes["loss"].default is inspect.Parameter.empty:
        given["loss"] = CrossEntropy()
    return lambda eps, **more: target(eps=eps, **given | more)


def _feasible(given: np.ndarray, x: Array, result: Array, p: Norm, eps: float) -> Laws:
    """The laws of every result of an attack."""
    found = to_numpy(result)
    shapes = found.shape == given.shape
    yield law("perturbed inputs shaped as the input", shapes, shape=found.shape)
    kept = result.dtype == x.dtype
    yield law("the input's float type", kept, found=str(result.dtype), input=str(x.dtype))
    yield law("finite perturbed inputs", np.isfinite(found), x=given, found=found)
    boxed = (found >= 0) & (found <= 1)
    yield law("the box [0, 1]", boxed, x=given, found=found)
    slack = 1e-6 if given.dtype == np.float32 else TOLERANCE
    size = p(found.astype(np.float64) - given)
    inside = size <= eps * (1 + slack) + slack
    yield law("the ball of radius eps", inside, x=given, p=p.name, eps=eps, norm=size)


def _setting(
    name: str, make: Callable[..., Attack], network: Network, x: Array, y: Array, eps: float
) -> Laws:
    """More steps or restarts give another result, or at least cost more passes."""
    found = []
    for count in (FEW, MANY):
        counted = _Counted(network)
        try:
            attack = make(eps, **{name: count})
            result = to_numpy(attack(counted, x, y, rng=np.random.default_rng(0)))
        except OnrError as error:  # it needs more, another number, or a network of its own
            yield Law(f"{name} is not ignored", skipped=str(error))
            return
        found.append((result, counted.passes))
    (few, less), (many, more) = found
    used = bool(less != more or (few != many).any())
    counts = f"{name} = {FEW} and {name} = {MANY}: the same result with the same {less} passes"
    yield law(f"{name} is not ignored", used, settings=counts)


class _Counted:
    """A network that counts its passes, each for each example."""

    def __init__(self, network: Network) -> None:
        self._network, self.passes = network, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._network.input_shape

    def __call__(self, x: Array, /) -> Array:
        self.passes += len(x)
        return self._network(x)

    def linearize(self, x: Array, /, *, jvp: bool = True) -> Linearization:
        self.passes += len(x)
        return self._network.linearize(x, jvp=jvp)


class _Flat:
    """A constant network, which is also its own linearisation; the logits are those of ``x[0]``."""

    def __init__(self, network: Network, x: Array) -> None:
        self._network, self._first = network, x[:1]
        self.input_shape = network.input_shape
        self.value = self(x)
        self.output_shape = self.value.shape[1:]

    def __call__(self, x: Array, /) -> Array:
        first = self._network(self._first)
        return array_namespace(first).concat([first] * len(x))

    def linearize(self, x: Array, /, *, jvp: bool = True) -> _Flat:
        xp = array_namespace(x)
        return _Flat(self._network, xp.concat([self._first] * len(x)))

    def jvp(self, v: Array, /) -> Array:
        return 0 * self.value

    def vjp(self, u: Array, /) -> Array:
        xp = array_namespace(u)
        return xp.zeros_like(xp.concat([self._first] * len(u)))
