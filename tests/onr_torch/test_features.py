"""``phi^(L-1)``: the last affine layer on top of the features is the network."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from onr.architectures import Affine, Architecture, Flatten, MaxPool, Normalize, ReLU
from onr.errors import OnrError
from onr.exact.surds import exact_array
from onr.jacobians.dense import jacobian
from onr_numpy.backend import NumpyBackend
from onr_numpy.exact_network import ExactNetwork
from onr_paper.models import cnn7
from onr_torch.backend import TorchBackend
from onr_torch.network import TorchNetwork

SHAPE = (3, 32, 32)
NORMALIZE = Normalize((0.5,) * 3, (0.25,) * 3)


class Named(nn.Module):
    """The last layer is not the last by name, and another affine layer runs before it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 4)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3072, 6), nn.ReLU())

    def forward(self, x):
        return self.head(self.body(x))


class Afterwards(nn.Module):
    """Something is done to the outputs of the last affine layer."""

    def __init__(self, after: Callable[[torch.Tensor], torch.Tensor]):
        super().__init__()
        self.layer, self.after = nn.Linear(4, 3), after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.layer(x))


def doubled_and_shifted(y: torch.Tensor) -> torch.Tensor:
    y = y * 2
    return y + 1  # the first tensor is gone, and another may have its address


AFTERWARDS = {
    "other tensors": doubled_and_shifted,
    "probabilities": lambda y: y.log_softmax(1).exp(),
    "in place": lambda y: y.mul_(2),
}

NETWORKS = {
    "cnn7": lambda: TorchBackend().build(cnn7(SHAPE, 10, normalize=NORMALIZE, width=2)).module,
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "named": Named,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_layer_on_the_features_is_the_network(name):
    torch.manual_seed(0)
    module = NETWORKS[name]().double().eval()
    network = TorchNetwork(module, SHAPE)
    names = [key for key, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    last = module.head if name == "named" else module.get_submodule(names[-1])
    features = network.features()
    x = torch.rand(3, *SHAPE, dtype=torch.float64)
    torch.testing.assert_close(last(features(x)), network(x))
    v = torch.randn_like(x)
    torch.testing.assert_close(
        features.linearize(x).jvp(v) @ last.weight.T, network.linearize(x).jvp(v)
    )
    assert isinstance(last, nn.Linear)
    assert network.module is module
    assert features.module is not module


def test_numpy_and_torch_have_the_same_features():
    model = Architecture((1, 4, 4), (Flatten(), Affine(8), ReLU(), Affine(5), ReLU(), Affine(3)))
    ours, theirs = (b.build(model, dtype="float64") for b in (NumpyBackend(), TorchBackend()))
    x = np.random.default_rng(0).random((4, 1, 4, 4))
    J = jacobian(ours.features().linearize(x))
    assert J.shape == (4, 5, 16)
    expected = jacobian(theirs.features().linearize(torch.from_numpy(x)))
    np.testing.assert_allclose(J, expected, atol=1e-14)
    exact = ExactNetwork(ours).features()
    found = exact(exact_array(x[:1], Fraction))
    np.testing.assert_allclose(found.astype(float), ours.features()(x[:1]), atol=1e-14)


def test_no_last_affine_layer_is_said():
    with pytest.raises(OnrError, match="not those of an affine layer"):
        TorchNetwork(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU()), (4,)).features()
    for after in AFTERWARDS.values():
        with pytest.raises(OnrError, match="not those of an affine layer"):
            TorchNetwork(Afterwards(after), (4,)).features()
    model = Architecture((1, 4, 4), (MaxPool(), Flatten()))
    with pytest.raises(OnrError, match="features"):
        NumpyBackend().build(model).features()
