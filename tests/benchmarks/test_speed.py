"""What a step costs: ``pytest --benchmark-only``. Compare within one run."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from turns import in_turns, ratios

from onr.architectures import Normalize
from onr.jacobians.iterations import projected_gradient_ascent, walk
from onr.losses import CrossEntropy
from onr.norms import LpNorm
from onr_numpy.backend import NumpyBackend
from onr_paper.models import cnn7
from onr_torch.backend import TorchBackend
from onr_torch.linearization import jvp
from onr_torch.modes import constant_parameters
from onr_validation.theorem.draws import check_draws, random_draws

BATCH = 128
CNN7 = "cnn7, width 32, batch 128, channels last"


@pytest.fixture(scope="module")
def network():
    model = cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=32)
    return TorchBackend().build(model)


@pytest.fixture(scope="module")
def x(network):
    images = np.random.default_rng(0).random((BATCH, 3, 32, 32), dtype=np.float32)
    return network.asarray(images)


def ascent_step(network, x):
    labels = torch.zeros(BATCH, dtype=torch.int64)
    projected_gradient_ascent(
        network,
        x,
        torch.zeros_like(x),
        loss=CrossEntropy(),
        labels=labels,
        p=LpNorm(2),
        eps=0.5,
        alpha=0.1,
        steps=1,
    )


def torch_func_jvp(network, x):
    with torch.no_grad(), constant_parameters(network.module):
        jvp(network.module, x, x)


@pytest.mark.benchmark(group=CNN7)
def test_forward(benchmark, network, x):
    benchmark(network, x)


@pytest.mark.benchmark(group=CNN7)
def test_linearization(benchmark, network, x):
    benchmark(network.linearize, x)


@pytest.mark.benchmark(group=CNN7)
@pytest.mark.parametrize("product", ["jvp", "vjp"])
def test_product(benchmark, network, x, product):
    at = network.linearize(x)
    benchmark(getattr(at, product), x if product == "jvp" else at.value)


@pytest.mark.benchmark(group=CNN7)
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(("p", "q"), [(2, 2), (math.inf, 1)])
def test_norm_iteration(benchmark, network, x, p, q, folded):
    """At most 2.3 forwards, and no dearer than a step of gradient ascent, in turns."""
    plain, network = network, network.frozen() if folded else network
    at = network.linearize(x)
    step = partial(walk, at, x - 0.5, p=LpNorm(p), q=LpNorm(q), steps=1)
    benchmark(step)
    works = {
        "forward": partial(plain, x),
        "norm iteration": step,
        "ascent step": partial(ascent_step, network, x),
        "torch.func.jvp": partial(torch_func_jvp, network, x),
    }
    cost = ratios(benchmark, in_turns(works, rounds=15), "forward")
    assert cost["norm iteration"] <= 2.3
    assert cost["norm iteration"] <= 1.05 * cost["ascent step"]


@pytest.mark.benchmark(group="ball projection, 128 x 3072")
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_ball_projection(benchmark, x, p):
    norm = LpNorm(p)
    benchmark(norm.project_ball, x, norm(x) / 3)


@pytest.mark.benchmark(group="theorem, 20 draws")
@pytest.mark.parametrize(("p", "q"), [(2, 2), (math.inf, 1)])
def test_theorem(benchmark, p, q):
    def check():
        return list(
            check_draws(
                NumpyBackend(),
                random_draws("24,24", trials=20, seed=0),
                p=LpNorm(p),
                q=LpNorm(q),
                iterations=20,
            )
        )

    benchmark(check)
