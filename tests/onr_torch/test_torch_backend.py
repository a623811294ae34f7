import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from onr.architectures import Normalize
from onr.attacks.projected_gradient import ProjectedGradientAscent
from onr.data import Split
from onr.errors import OnrError
from onr.jacobians.dense import jacobian, singular_values
from onr.norms import LpNorm
from onr.registry import load
from onr.training.optimizers import Optimizer
from onr_paper.models import cnn7
from onr_torch.backend import TorchBackend
from onr_torch.linearization import linearize
from onr_torch.modes import constant_parameters, evaluating
from onr_torch.network import TorchNetwork

SHAPE = (3, 8, 8)


class Residual(nn.Module):
    """Functional calls, an in-place ReLU, a skip, a smooth activation, average pooling, dropout."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(4 * 4, 5)

    def forward(self, x):
        z = self.act(self.norm(self.first(x)))
        z = z + functional.gelu(self.second(z))
        z = functional.max_pool2d(functional.avg_pool2d(z, 2), 2)
        return self.last(self.drop(z.flatten(1)))


def zoo():
    torch.manual_seed(0)
    yield nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 5))
    head = (nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5))
    yield nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), *head)
    net = Residual()
    net(torch.randn(20, *SHAPE))
    yield net


ZOO = [module.double() for module in zoo()]
IDS = ["mlp", "tanh-cnn", "residual"]


def directions(seed, count=4):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
    v = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
    u = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    return x, v, u


@pytest.mark.parametrize("module", ZOO, ids=IDS)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_adjoint(module, seed):
    x, v, u = directions(seed)
    at = TorchNetwork(module, SHAPE).linearize(x)
    left, right = (u * at.jvp(v)).sum(1), (at.vjp(u) * v).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("module", ZOO, ids=IDS)
def test_equal_to_autograd(module):
    x, v, _ = directions(0)
    module.eval()
    at = linearize(module, x)
    J = torch.stack([torch.func.jacrev(lambda z: module(z[None])[0])(row) for row in x]).detach()
    np.testing.assert_allclose(jacobian(at), J.flatten(2), atol=1e-12)
    np.testing.assert_allclose(at.jvp(v), torch.einsum("bij,bj->bi", J.flatten(2), v.flatten(1)))
    np.testing.assert_allclose(at.value, module(x).detach())
    np.testing.assert_allclose(singular_values(at), torch.linalg.svdvals(J.flatten(2)), atol=1e-12)


def test_training_mode_is_refused():
    module = Residual().double().train()
    x, _, _ = directions(0)
    with pytest.raises(OnrError, match=r"'norm' is in training mode.*eval"):
        linearize(module, x)
    module.eval()
    module.drop.train()
    with pytest.raises(OnrError, match="'drop'"):
        linearize(module, x)


def modes(module):
    return [part.training for part in module.modules()]


def test_modes_gradients_and_buffers_are_left_alone():
    module = Residual().double().train()
    module.norm.eval()
    module.first.weight.requires_grad_(False)
    before = modes(module)
    wanted = [parameter.requires_grad for parameter in module.parameters()]
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    x, v, u = directions(0)
    network = TorchNetwork(module, SHAPE)
    network(x)
    at = network.linearize(x)
    at.jvp(v)
    at.vjp(u)
    attack = ProjectedGradientAscent(
        p=LpNorm(2), loss=load("loss", "cross-entropy")(), eps=0.1, bounds=None
    )
    attack(network, x, torch.zeros(4, dtype=torch.int64), rng=np.random.default_rng(0))
    for context in (evaluating, constant_parameters):
        with pytest.raises(KeyError), context(module):
            raise KeyError
    assert modes(module) == before
    assert [parameter.requires_grad for parameter in module.parameters()] == wanted
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not x.requires_grad
    for name, value in module.named_buffers():
        assert torch.equal(value, buffers[name])


def test_batch_is_its_examples():
    network = TorchNetwork(ZOO[2], SHAPE)
    x, v, _ = directions(3)
    whole = network.linearize(x).jvp(v)
    for i in range(len(x)):
        np.testing.assert_allclose(network.linearize(x[i : i + 1]).jvp(v[i : i + 1])[0], whole[i])


def test_cnn7_is_the_papers():
    network = TorchBackend().build(
        cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=128)
    )
    convolutions = [part for part in network.module if isinstance(part, nn.Conv2d)]
    assert [part.out_channels for part in convolutions] == [128, 128, 256, 256, 512, 512, 1024]
    assert [part.padding[0] for part in convolutions] == [1] * 6 + [0]
    assert network.module[-1].in_features == 1024
    assert all(not part.affine for part in network.module if isinstance(part, nn.BatchNorm2d))


METHODS = {
    "standard": {},
    "at": {"steps": 2},
    "at lq": {"loss": "lq:1", "p": "inf", "steps": 2},
    "dd-snr": {"steps": 2},
    "dd-snr jacobian": {"form": "jacobian", "steps": 2},
    "dd-onr": {"p": "1", "q": "inf", "eps": 1.0, "steps": 2},
    "dd-onr-exact": {},
    "dd-onr-exact inf-1": {"p": "inf", "q": "1"},
    "dd-snr-warm": {},
    "global-snr": {"steps": 2},
    "global-snr convolution": {"kernel": "convolution"},
    "interpolate": {"steps": 2, "form": "jacobian"},
    "input-gradient": {},
    "frobenius": {},
}


def taught(network, method, **more):
    """A learner of eight random images."""
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (8, *network.input_shape), dtype=np.uint8)
    split = Split(images, np.arange(8) % 5)
    return TorchBackend().learner(network, method, split, optimizer=Optimizer(), **more)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_leaves_no_tensor_behind(method, monkeypatch):
    """On the meta device a tensor that was left on the CPU is an error."""
    model = cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=2)
    network = TorchBackend().build(model, device="meta")
    built = load("method", method.partition(" ")[0])(**METHODS[method])
    # What depends on values, which meta tensors have none of.
    monkeypatch.setattr("onr.attacks.projected_gradient.require_inside", lambda x, bounds: None)
    monkeypatch.setattr("onr.attacks.fast_gradient.require_inside", lambda x, bounds: None)
    monkeypatch.setattr("onr.jacobians.operator_norms.check_matrices", lambda J: None)
    monkeypatch.setattr("onr.jacobians.operator_norms._in_range", lambda found: found)
    learner = taught(network, built, augmentation="crop-flip")
    for step in range(2):
        rng = np.random.default_rng(step)
        assert learner.step(np.arange(4), lr=0.1, rng=rng).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_cuda_steps_as_the_cpu_does(method):
    model = cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=4)
    states = []
    for device in ("cpu", "cuda"):
        network = TorchBackend().build(model, device=device, dtype="float64")
        built = load("method", method.partition(" ")[0])(**METHODS[method])
        learner = taught(network, built, augmentation="crop-flip")
        for step in range(2):
            learner.step(np.arange(8), lr=0.01, rng=np.random.default_rng(step))
        states.append(learner.state())
    for name, value in states[0].items():
        np.testing.assert_allclose(value, states[1][name], atol=1e-7)


class Noisy(nn.Module):
    """Draws its own weights, and drops units in training."""

    input_shape = SHAPE

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(192, 32), nn.Dropout(), nn.Linear(32, 5)
        )

    def forward(self, x):
        return self.layers(x)


def test_a_seed_determines_a_module_of_ones_own():
    states = []
    for _ in range(2):
        torch.rand(1)
        network = TorchBackend().build(Noisy, seed=3)
        learner = taught(network, load("method", "at")(steps=2))
        for step in range(3):
            learner.step(np.arange(6), lr=0.1, rng=np.random.default_rng(step))
        states.append(learner.state())
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name])


def test_outputs_that_are_no_logits_are_refused():
    x, _, _ = directions(0)
    with pytest.raises(OnrError, match=r"\(4, 2, 6, 6\): expected logits \(batch, d\)"):
        linearize(nn.Conv2d(3, 2, 3).double(), x)


def test_a_module_that_starts_in_place():
    x, v, u = directions(0)
    at = linearize(nn.Sequential(nn.ReLU(inplace=True), *ZOO[0]), x)
    torch.testing.assert_close((u * at.jvp(v)).sum(1), (at.vjp(u) * v).flatten(1).sum(1))


def test_attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, x):
            return self.block(x).flatten(1)

    fused = torch.backends.mha.get_fastpath_enabled()
    x, v = torch.randn(2, 2, 3, 8, dtype=torch.float64)
    u = torch.randn(2, 24, dtype=torch.float64)
    at = linearize(Attention().eval().double(), x)
    torch.testing.assert_close((u * at.jvp(v)).sum(1), (at.vjp(u) * v).flatten(1).sum(1))
    assert torch.backends.mha.get_fastpath_enabled() is fused


def test_no_forward_mode_derivative_is_needed():
    class Distances(nn.Module):
        def forward(self, x):
            return torch.cdist(x, torch.zeros(2, 1, 8, dtype=x.dtype)).flatten(1)

    x, v = torch.randn(2, 2, 3, 8, dtype=torch.float64)
    u = torch.randn(2, 3, dtype=torch.float64)
    at = linearize(Distances(), x)
    torch.testing.assert_close((u * at.jvp(v)).sum(1), (at.vjp(u) * v).flatten(1).sum(1))


def test_no_derivative_of_the_derivative_is_said():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.exp()

        @staticmethod
        @once_differentiable
        def backward(ctx, gradient):
            return gradient

    class Layer(nn.Module):
        def forward(self, x):
            return Once.apply(x)

    x = torch.randn(2, 3)
    at = linearize(Layer(), x)
    assert at.vjp(x).shape == x.shape
    with pytest.raises(OnrError, match="no forward-mode derivative"):
        at.jvp(x)


def test_wrong_device_and_parameters():
    model = cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=2)
    with pytest.raises(OnrError, match="'quantum' cannot be used"):
        TorchBackend().build(model, device="quantum")
    parameters = TorchBackend().build(model).parameters()
    other = cnn7((3, 32, 32), 7, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=2)
    with pytest.raises(OnrError, match="do not fit"):
        TorchBackend().build(other, parameters=parameters)
    del parameters["1.weight"]
    with pytest.raises(OnrError, match=r"missing \['1.weight'\]"):
        TorchBackend().build(model, parameters=parameters)
