"""What an operator norm costs, and how tight a bracket is: ``pytest --benchmark-only``."""

import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from onr.architectures import Normalize
from onr.jacobians.dense import Matrices, jacobian
from onr.jacobians.lanczos import singular_triplets
from onr.jacobians.operator_norms import operator_norm
from onr.jacobians.regression import regress_jacobian
from onr.jacobians.scipy_operator import linear_operator
from onr_paper.models import cnn7
from onr_torch.backend import TorchBackend

BATCH = 128
LIMITS = {(2, 1): 0.002, (math.inf, 1): 0.040}
"""Seconds an example, for 10 logits and 3072 inputs on two cores."""


@pytest.fixture(scope="module")
def at():
    """The linearisation of the paper's network, freshly drawn, at random images."""
    model = cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=16)
    network = TorchBackend().build(model)
    images = np.random.default_rng(0).random((BATCH, 3, 32, 32), dtype=np.float32)
    return network.linearize(network.asarray(images))


@pytest.fixture(scope="module")
def matrices(at):
    return jacobian(at)


@pytest.mark.benchmark(group="operator norm, 128 Jacobians of 10 x 3072, float32")
@pytest.mark.parametrize("arrays", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("p", "q"),
    [(1, 2), (2, 1), (2, 2), (2, math.inf), (math.inf, 1), (math.inf, 2), (2, 3), (3, 2)],
    ids=lambda value: f"{value:g}",
)
def test_operator_norm(benchmark, matrices, arrays, p, q):
    J = matrices.numpy() if arrays == "numpy" else matrices
    found = benchmark.pedantic(operator_norm, (J,), {"p": p, "q": q}, rounds=3, warmup_rounds=1)
    benchmark.extra_info["kind"] = found.kind
    benchmark.extra_info["largest upper / lower"] = float((found.upper / found.lower).max())
    seconds = benchmark.stats.stats.median / BATCH
    benchmark.extra_info["ms an example"] = 1e3 * seconds
    assert seconds < LIMITS.get((p, q), math.inf)
    assert (p, q) != (math.inf, 2) or (found.upper / found.lower).max() < 1.26


@pytest.mark.benchmark(group="operator norm, 1,000 outputs, 8 Jacobians of 1000 x 3072, float32")
@pytest.mark.parametrize(("p", "q"), [(1, 2), (2, math.inf), (2, 2)], ids=lambda p: f"{p:g}")
def test_streamed_operator_norm(benchmark, p, q):
    J = np.random.default_rng(0).standard_normal((8, 1000, 3072), dtype=np.float32)
    found = benchmark.pedantic(operator_norm, (Matrices(J),), {"p": p, "q": q}, rounds=1)
    assert found.kind == "exact"


@pytest.mark.benchmark(group="the whole Jacobian, 10 x 3072, one image")
@pytest.mark.parametrize("how", ["vjps", "regression, section 7.9"])
def test_jacobian(benchmark, matrices, at, how):
    one = (
        TorchBackend()
        .build(cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=16))
        .linearize(torch.zeros(1, 3, 32, 32))
    )
    if how == "vjps":
        benchmark(jacobian, one)
        return
    found, _ = benchmark.pedantic(
        regress_jacobian, (one,), {"rng": np.random.default_rng(0)}, rounds=1
    )
    exact = jacobian(one)
    error = torch.linalg.norm(found - exact) / torch.linalg.norm(exact)
    benchmark.extra_info["relative Frobenius error"] = float(error)


@pytest.mark.benchmark(group="5 singular triplets of 256 x 3072, float64")
@pytest.mark.parametrize("how", ["onr", "scipy svds"])
def test_singular_triplets(benchmark, how):
    rng = np.random.default_rng(0)
    at = Matrices(rng.standard_normal((1, 256, 3072)) * np.linspace(1, 3, 256)[:, None])
    if how == "onr":
        benchmark(lambda: singular_triplets(at, 5, rng=np.random.default_rng(0)))
    else:
        operator = linear_operator(at)
        benchmark(lambda: scipy.sparse.linalg.svds(operator, k=5, rng=np.random.default_rng(0)))
