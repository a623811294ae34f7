"""What an audit measures at an image equals what is computed in the open."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from onr.arrays import to_numpy
from onr.auditing.block import Block
from onr.auditing.chunked_network import ChunkedNetwork
from onr.auditing.images import Measured, measure_images
from onr.auditing.threat import Threat
from onr.norms import LpNorm
from onr_torch.network import TorchNetwork

ONE, TWO, INF = LpNorm(1), LpNorm(2), LpNorm(math.inf)
PAIRS = ((TWO, TWO), (INF, ONE), (INF, INF), (ONE, TWO))
COUNT = 6


def model(outputs: int = 4, *, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(20, outputs)).eval()


def block(module: nn.Module, dtype: torch.dtype, *, p: LpNorm = TWO, eps: str = "0.5") -> Block:
    module = module.to(dtype)
    x = torch.rand(COUNT, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)
    y = to_numpy(module(x).argmax(1))
    y[0] = (y[0] + 1) % 3  # one image is misclassified
    network = ChunkedNetwork(TorchNetwork(module, (2, 4, 4)), COUNT)
    return Block(network, x, y, np.arange(COUNT), Threat(p, eps))


def jacobians(module: nn.Module, x: torch.Tensor) -> np.ndarray:
    rows = torch.func.vmap(torch.func.jacrev(lambda each: module(each[None])[0]))(x)
    return to_numpy(rows.detach().flatten(2)).astype(np.float64)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_norms_are_those_of_the_dense_jacobian(dtype: torch.dtype, rtol: float) -> None:
    module = model()
    piece = block(module, dtype)
    found = measure_images(piece, PAIRS).columns
    J = jacobians(module, piece.x)
    S = np.linalg.svd(J, compute_uv=False)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=J.shape[1])))
    by_hand = {
        "norm 2:2": S[:, 0],
        "norm inf:1": np.abs(signs @ J).sum(axis=2).max(axis=1),
        "norm inf:inf": np.abs(J).sum(axis=2).max(axis=1),
        "norm 1:2": np.linalg.norm(J, axis=1).max(axis=1),
    }
    for name, values in by_hand.items():
        np.testing.assert_allclose(found[name], values, rtol=rtol)
        assert set(found[f"{name} kind"]) == {"exact"}
    for k in range(S.shape[1]):
        np.testing.assert_allclose(found[f"sigma {k + 1}"], S[:, k], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("p", [ONE, TWO, INF], ids=["1", "2", "inf"])
def test_first_order_radius_is_the_smallest_quotient(p: LpNorm) -> None:
    module = model()
    piece = block(module, torch.float64, p=p)
    found = measure_images(piece, [(TWO, TWO)]).columns
    J, z = jacobians(module, piece.x), to_numpy(module(piece.x).detach())
    for i, y in enumerate(piece.y):
        quotients = {
            j: (z[i, y] - z[i, j]) / float(p.dual((J[i, j] - J[i, y])[None])[0])
            for j in range(z.shape[1])
            if j != y
        }
        nearest = min(quotients, key=quotients.__getitem__)
        assert found["first-order class"][i] == nearest
        np.testing.assert_allclose(found["first-order radius"][i], max(0, quotients[nearest]))


@pytest.mark.parametrize("p", [ONE, TWO, INF], ids=["1", "2", "inf"])
def test_of_an_affine_network_every_radius_is_exact(p: LpNorm) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(32, 3)).eval()
    piece = block(module, torch.float64, p=p, eps={"1": "1", "2": "0.4", "inf": "0.05"}[p.name])
    piece.x.clamp_(0.45, 0.55)  # far from the bounds of the box
    y = to_numpy(module(piece.x).argmax(1))
    piece = Block(piece.network, piece.x, y, piece.places, piece.threat)
    found = measure_images(piece, [(TWO, TWO)], cells=COUNT).columns
    assert np.isinf(found["cell radius"]).all()
    np.testing.assert_array_equal(found["exact radius"], found["first-order radius"])
    for text in piece.threat.radii:
        np.testing.assert_allclose(found[f"rho at {text}"], 1)
    broken = np.isfinite(found["radius found"])
    assert broken.any()
    exact = found["exact radius"][broken]
    assert (found["radius found"][broken] >= exact * (1 - 1e-9)).all()
    if p.name != "1":  # one pixel soon stands at its bound
        assert (found["radius found"][broken] <= exact * 1.001).all()
    biggest = max(piece.threat.radii.values())
    assert (found["exact radius"][~broken] > biggest * 0.9).all()


def test_a_radius_found_is_attained() -> None:
    """The shortened perturbation is misclassified: nothing is nearer by the cell radius either."""
    piece = block(model(), torch.float64, eps="0.2")
    found = measure_images(piece, [(TWO, TWO)], cells=COUNT).columns
    exact = ~np.isnan(found["exact radius"])
    assert (found["exact radius"][exact] <= found["radius found"][exact] + 1e-12).all()
    assert found["radius found"][0] == found["first-order radius"][0] == 0
    correct = np.stack([found[f"robust at {text}"] for text in piece.threat.radii])
    assert (np.diff(correct, axis=0) <= 0).all()
    for text, eps in piece.threat.radii.items():
        broken = found[f"robust at {text}"] == 0
        assert (found["radius found"][broken] <= eps * (1 + 1e-9)).all()


def test_of_many_outputs_the_jacobian_of_the_largest_is_a_lower_bound() -> None:
    module = model(outputs=70)
    piece = block(module, torch.float64)
    found = measure_images(piece, PAIRS).columns
    J = jacobians(module, piece.x)
    S = np.linalg.svd(J, compute_uv=False)
    np.testing.assert_allclose(found["sigma 1"], S[:, 0], rtol=1e-3)
    assert set(found["norm 2:2 kind"]) == {"lower"}
    assert (found["norm 2:2"] <= S[:, 0] * (1 + 1e-9)).all()
    assert np.isnan(found["norm 2:2 upper"]).all()
    assert (found["norm inf:inf"] <= np.abs(J).sum(axis=2).max(axis=1) * (1 + 1e-9)).all()


def test_the_batch_size_changes_rounding_alone() -> None:
    module = model()
    whole = block(module, torch.float64)
    chunked = ChunkedNetwork(whole.network.network, 2)
    pieces = Block(chunked, whole.x, whole.y, whole.places, whole.threat)
    one: Measured = measure_images(whole, PAIRS, cells=2)
    other = measure_images(pieces, PAIRS, cells=2)
    for name, values in one.columns.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(other.columns[name], values, rtol=1e-6, err_msg=name)


def test_a_network_of_numpy_is_measured_as_one_of_torch() -> None:
    from onr.architectures import Affine, Architecture, ReLU
    from onr_numpy.backend import NumpyBackend
    from onr_torch.backend import TorchBackend

    network = Architecture((3,), (Affine(5), ReLU(), Affine(4)))
    x, y = np.random.default_rng(0).random((4, 3)), np.array([0, 1, 2, 3])
    found = []
    for backend in (NumpyBackend(), TorchBackend()):
        made = ChunkedNetwork(backend.build(network, seed=1, dtype="float64"), 4)
        piece = Block(made, made.asarray(x), y, np.arange(4), Threat(TWO, "0.5"))
        found.append(measure_images(piece, PAIRS, cells=4).columns)
    for name, values in found[0].items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found[1][name], values, rtol=1e-6, atol=1e-12, err_msg=name)
