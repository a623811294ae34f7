"""The activation pattern of modules: which ReLUs are on, however they are written."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from onr.architectures import Normalize
from onr.errors import OnrError
from onr_numpy.backend import NumpyBackend
from onr_paper.models import cnn7, mlp
from onr_torch.backend import TorchBackend
from onr_torch.patterns import activation_pattern

NORMALIZE = Normalize((0.5,), (0.25,))


def test_the_pattern_is_that_of_the_dense_reference():
    architecture = mlp((1, 4, 4), 5, normalize=NORMALIZE, width=7, depth=3)
    x = np.random.default_rng(0).random((6, 1, 4, 4))
    torch_backend, numpy_backend = TorchBackend(), NumpyBackend()
    module = torch_backend.build(architecture, seed=1, dtype="float64")
    dense = numpy_backend.build(architecture, seed=1, dtype="float64")
    found = module.activation_pattern(torch.from_numpy(x))
    assert found.shape == (6, 21)
    assert found.dtype == torch.bool
    np.testing.assert_array_equal(found.numpy(), dense.activation_pattern(x) != 0)


def test_folding_leaves_the_pattern():
    normalize = Normalize((0.5,) * 3, (0.25,) * 3)
    network = TorchBackend().build(
        cnn7((3, 32, 32), 10, normalize=normalize, width=2), dtype="float64"
    )
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    frozen = network.frozen()
    assert frozen.passes is not network.module
    assert torch.equal(frozen.activation_pattern(x), network.activation_pattern(x))


class Written(nn.Module):
    """One hidden layer, its ReLU written in the given way."""

    def __init__(self, relu):
        super().__init__()
        self.first, self.relu = nn.Linear(4, 3), relu

    def forward(self, x):
        return self.relu(self.first(x))


@pytest.mark.parametrize(
    "relu",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.LeakyReLU(0.1, inplace=True),
        torch.relu,
        torch.relu_,
        functional.relu,
        functional.leaky_relu_,
        lambda z: z.relu(),
        lambda z: functional.relu(input=z),
    ],
)
def test_every_way_of_writing_it(relu):
    module = Written(relu).train()
    x = torch.randn(5, 4)
    with torch.no_grad():
        expected = module.first(x) > 0
    assert torch.equal(activation_pattern(module, x), expected)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_unit_at_zero_is_off():
    module = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU())
    assert not activation_pattern(module, torch.zeros(1, 2)).any()


def test_residual_networks():
    module = torchvision.models.resnet18(num_classes=3).eval()
    pattern = activation_pattern(module, torch.rand(2, 3, 32, 32))
    assert pattern.shape[0] == 2
    shown = []
    hooks = [
        part.register_forward_pre_hook(lambda layer, inputs: shown.append(inputs[0] > 0))
        for part in module.modules()
        if isinstance(part, nn.ReLU)
    ]
    with torch.no_grad():
        module(torch.rand(2, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    assert pattern.shape[1] == sum(mask[0].numel() for mask in shown)


def test_no_relu_no_pattern():
    with pytest.raises(OnrError, match="Linear has no ReLU"):
        activation_pattern(nn.Linear(2, 1), torch.zeros(1, 2))
