"""Parts of each kind with one fault, which the laws of the kind must find."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import click
import numpy as np

from onr.architectures import Affine, Architecture, Flatten
from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.auditing.base_check import BaseCheck
from onr.auditing.protocols import Flag
from onr.data import Dataset, LaterSplit, Split
from onr.errors import OnrError
from onr.losses import CrossEntropy, Margin
from onr.norms import LpNorm
from onr.protocols import Cost, Outputs, Probe
from onr_numpy.backend import NumpyBackend
from onr_numpy.learner import NumpyLearner
from onr_numpy.network import DenseNetwork
from onr_paper.global_snr import GlobalSpectralNorm

L2, LINF = LpNorm(2), LpNorm(math.inf)


class Spoilt:
    """Another object with some attributes of its own."""

    def __init__(self, good: Any) -> None:
        self.good = good

    def __getattr__(self, name: str) -> Any:
        return getattr(self.good, name)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return self.good(*arguments, **more)


# Norms


class WrongDual(Spoilt):
    dual = LpNorm(3)


class SaysEuclidean(Spoilt):
    euclidean = True


class NoProjection(Spoilt):
    def project_ball(self, y, radius):
        size = self.good(y)
        radius = np.broadcast_to(radius, size.shape)
        factor = np.where(size > radius, radius / np.where(size > 0, size, 1), 1)
        return y * factor.reshape((-1,) + (1,) * (y.ndim - 1))


class WrongFace(Spoilt):
    def project_face(self, y, direction, radius):
        return self.good.duality_map(direction) * np.reshape(radius, (-1,) + (1,) * (y.ndim - 1))


class FarFace(WrongFace):
    def project_face(self, y, direction, radius):
        still = (
            (direction == 0).reshape(len(y), -1).all(axis=1).reshape((-1,) + (1,) * (y.ndim - 1))
        )
        return np.where(still, y, super().project_face(y, direction, radius))


class NumberRadius(Spoilt):
    def project_ball(self, y, radius):
        return self.good.project_ball(y, float(np.max(radius)) if np.ndim(radius) else radius) * (
            1 if np.ndim(radius) == 0 else 1 - 1e-6
        )


class GivesNumPy(Spoilt):
    def gradient(self, x):
        return np.asarray(self.good.gradient(x))


class GivesDouble(Spoilt):
    def project_ball(self, y, radius):
        projected = self.good.project_ball(y, radius)
        return projected if isinstance(y, np.ndarray) else projected.double()


class SmallSamples(Spoilt):
    def sample_ball(self, rng, shape):
        return 0.9 * self.good.sample_ball(rng, shape)


# Losses


class WrongGradient(Spoilt):
    def gradient(self, logits, *, labels, clean=None):
        return 2 * self.good.gradient(logits, labels=labels)


class WrongDirection(Spoilt):
    def direction(self, logits, *, labels, clean=None):
        return -self.good.direction(logits, labels=labels)


class OfTheBatch(Spoilt):
    def value(self, logits, *, labels, clean=None):
        found = self.good.value(logits, labels=labels)
        return found - found.mean()


# Attacks


class IgnoresRestarts:
    def __init__(self, *, p, loss, eps, steps=3, restarts=1, bounds=(0, 1)):
        self.good = ProjectedGradientAscent(p=p, loss=loss, eps=eps, steps=steps, bounds=bounds)

    def __call__(self, network, x, y, *, rng):
        return self.good(network, x, y, rng=rng)


class IgnoresSteps(IgnoresRestarts):
    def __init__(self, *, p, loss, eps, steps=3, bounds=(0, 1)):
        super().__init__(p=p, loss=loss, eps=eps, bounds=bounds)


class LeavesTheBall(IgnoresRestarts):
    def __init__(self, *, p, loss, eps, bounds=(0, 1)):
        super().__init__(p=p, loss=loss, eps=1.1 * eps, bounds=bounds)


# Methods


class ForgetsTheWeight:
    """``l(f(x)) + lam l(f(x'))`` at a noisy input, whose gradient has no lam."""

    settings: dict[str, Any] = {"lam": 0.5}  # noqa: RUF012
    factor = 1.0

    def perturb(self, network, x, y, *, rng, memory):
        return Probe(clean=True, perturbed=(x + 0.1 * rng.standard_normal(x.shape),))

    def objective(self, outputs, y):
        loss, (z,) = CrossEntropy(), outputs.perturbed
        clean = outputs.clean
        return Cost(
            loss.value(clean, labels=y) + 0.5 * loss.value(z, labels=y),
            Outputs(
                clean=loss.gradient(clean, labels=y),
                perturbed=(self.factor * loss.gradient(z, labels=y),),
            ),
        )


class ForgetsAGradient(ForgetsTheWeight):
    factor = 0.5

    def objective(self, outputs, y):
        cost = super().objective(outputs, y)
        return replace(cost, gradients=replace(cost.gradients, clean=None))


class OfTheMean(ForgetsTheWeight):
    factor = 0.5

    def objective(self, outputs, y):
        cost = super().objective(outputs, y)
        return replace(cost, value=cost.value + outputs.clean.mean())


class NotInJson(ForgetsTheWeight):
    factor, settings = 0.5, {"p": L2}


class DrawsItsOwn(ForgetsTheWeight):
    factor = 0.5

    def perturb(self, network, x, y, *, rng, memory):
        return super().perturb(network, x, y, rng=np.random.default_rng(), memory=memory)


class ForgetsThePenaltysWeight(GlobalSpectralNorm):
    def penalty(self, weights, *, rng, memory):
        found = super().penalty(weights, rng=rng, memory=memory)
        return replace(found, value=2 * found.value)


# Models


def one_class_more(input_shape, classes):
    return Architecture(input_shape, (Flatten(), Affine(classes + 1)))


# Data sets


def _split(labels: Any, images: Any = None) -> Split:
    return Split(np.zeros((len(labels), 1, 2, 2)) if images is None else images, np.array(labels))


def labels_out_of_range(*, data_dir, download):
    part = _split([0, 1, 2, 1, 0])
    return Dataset("out", train=part, test=part, classes=("a", "b"))


def later_out_of_range(*, data_dir, download):
    later = LaterSplit(lambda: _split([0, 1, 2, 1, 0]))
    return Dataset("later", train=later, test=_split([0, 1, 0, 1]), classes=("a", "b"))


def other_each_time(*, data_dir, download):
    images = np.random.default_rng().random((5, 1, 2, 2))
    part = _split([0, 1, 1, 1, 0], images)
    return Dataset("other", train=part, test=part, classes=("a", "b"))


class NoDataset(Spoilt):
    """What is no ``Dataset``, so that nothing checked it."""


def unchecked(*, data_dir, download):
    part = _split([0, 1, 1, 1, 0])
    wrong = NoDataset(Dataset("unchecked", train=part, test=part, classes=("a", "b")))
    wrong.test = _split([0, -1, 1, 1, 0], np.full((5, 1, 2, 2), 1.5))
    return wrong


# Backends


class WrongVjpNetwork(DenseNetwork):
    def linearize(self, x, *, jvp=True):
        here = super().linearize(x)
        here.vjp = lambda u: 1.001 * type(here).vjp(here, u)
        return here


class WrongVjp(NumpyBackend):
    network: Any = WrongVjpNetwork

    def build(self, model, **given):
        good = super().build(model, **given)
        return self.network(good.architecture, good.weights)


class OwnWeights(NumpyBackend):
    def build(self, model, *, seed=0, **given):
        return super().build(model, seed=seed + 1, **given)


class ForgetsState(NumpyBackend):
    def learner(self, network, method, train, **given):
        learner = NumpyLearner(network, method, train, **given)
        learner.load_state = lambda state: None  # type: ignore[method-assign]
        return learner


class AdoptsAnything(NumpyBackend):
    def adopt(self, model, x, *, check=True):
        return model


# Checks


class Random(BaseCheck):
    name, summary, threshold = "random", "it is decided by chance", 0.5
    source, meaning, remedy = "an example", "Nothing.", "Nothing."
    images = 5

    def look(self, block):
        return {"draw": np.random.default_rng().random(len(block))}

    def verdict(self, evidence):
        seen = self.seen(evidence, "draw")
        if not len(seen):
            return self.unknown("nothing was drawn")
        return self.flag(seen.mean(), len(seen), "a mean of draws")


class RaisesThere(Random):
    name = "raises-there"

    def look(self, block):
        return {"draw": 1 / np.zeros(0)[0]}


class RaisesHere(Random):
    name = "raises-here"

    def look(self, block):
        raise OnrError("it cannot be measured")

    def verdict(self, evidence):
        return self.flag(evidence.of(self.name)["draw"].mean(), 1, "a mean")


class Undecided(Random):
    name = "undecided"
    images = 0

    def verdict(self, evidence):
        value = np.random.default_rng().random()
        return self.flag(value, 1, f"a draw, {value}")


class OtherSide(Random):
    name = "other-side"
    images = 0

    def verdict(self, evidence):
        return Flag(self.name, False, 1.0, 0.5, self.source, "beyond, and not raised")


# The others


def no_setting() -> dict[str, Any]:
    return {"epoch": 5}


class NoTitle:
    title = ""


@click.command()
def no_help() -> None:
    pass


def good_norm() -> Any:
    return LINF


good_loss = CrossEntropy
wrong_dual = partial(WrongDual, LINF)
says_euclidean = partial(SaysEuclidean, LINF)
no_projection = partial(NoProjection, LINF)
wrong_face = partial(WrongFace, LINF)
far_face = partial(FarFace, LINF)
number_radius = partial(NumberRadius, L2)
gives_numpy = partial(GivesNumPy, L2)
gives_double = partial(GivesDouble, L2)
small_samples = partial(SmallSamples, L2)
wrong_gradient = partial(WrongGradient, CrossEntropy())
wrong_direction = partial(WrongDirection, Margin())
of_the_batch = partial(OfTheBatch, CrossEntropy())

FAULTS: dict[str, list[tuple[str, str]]] = {
    "norm": [
        ("wrong_dual", "<v, z> = ||z||_* (Lemma 1)"),
        ("says_euclidean", "the parallelogram law, if it is euclidean"),
        ("no_projection", "no point of the ball is closer"),
        ("wrong_face", "a zero direction moves nothing"),
        ("far_face", "the point of the face is that limit, and no other"),
        ("number_radius", "a radius for each example, as an array"),
        ("gives_numpy", "the gradient of torch's arrays is such an array"),
        ("gives_double", "the ball's projection of torch's float32 is float32"),
        ("small_samples", "samples are uniform by volume"),
    ],
    "loss": [
        ("wrong_gradient", "the gradient is the derivative"),
        ("wrong_direction", "the direction is a positive multiple of the gradient"),
        ("of_the_batch", "a loss does not depend on its batch"),
    ],
    "attack": [
        ("IgnoresRestarts", "restarts is not ignored"),
        ("IgnoresSteps", "steps is not ignored"),
        ("LeavesTheBall", "the ball of radius eps"),
    ],
    "method": [
        ("ForgetsTheWeight", "the gradient in perturbed[0] is that of the cost"),
        ("ForgetsAGradient", "the gradient in clean is that of the cost"),
        ("OfTheMean", "the cost of an example does not depend on the others"),
        ("NotInJson", "settings are texts and numbers by name"),
        ("ForgetsThePenaltysWeight", "the gradient of the penalty is that of its value"),
        ("DrawsItsOwn", "one seed, one probe"),
    ],
    "model": [("one_class_more", "a logit for each class")],
    "dataset": [
        ("labels_out_of_range", "shapes, labels and pixels are valid"),
        ("later_out_of_range", "shapes, labels and pixels are valid"),
        ("other_each_time", "train part: one data set each time: images"),
        ("unchecked", "test part: labels are classes, from 0"),
        ("unchecked", "test part: pixels of floats are in [0, 1]"),
    ],
    "backend": [
        ("WrongVjp", "<u, J v> = <J^T u, v>"),
        ("OwnWeights", "a seed draws the weights that it draws on every backend"),
        ("ForgetsState", "training goes on from a state as it did"),
        ("AdoptsAnything", "adopt refuses what is no model by an OnrError"),
    ],
    "check": [
        ("Random", "one block, one value: it draws from block.rng alone"),
        ("RaisesThere", "measure raises nothing but an OnrError"),
        ("RaisesHere", "verdict raises nothing"),
        ("Undecided", "one evidence, one verdict"),
        ("OtherSide", "the flag is raised where the value is beyond the threshold"),
    ],
    "preset": [("no_setting", "nothing is raised")],
    "experiment": [("NoTitle", "its title is a text")],
    "command": [("no_help", "it is a click command with a help text")],
}
"""The faults by kind, each with the law that it breaks."""
