"""The cell radius of torch modules: the dense reference, autograd unit by unit, laws, refusals."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from onr.architectures import (
    Affine,
    Architecture,
    BatchNorm,
    Conv,
    Flatten,
    MaxPool,
    Normalize,
    ReLU,
    initial_parameters,
)
from onr.errors import NotAvailableError, OnrError
from onr.norms import LpNorm
from onr_numpy.backend import NumpyBackend
from onr_paper.models import cnn7
from onr_pixel_norms.norms import PixelSum
from onr_torch.backend import TorchBackend
from onr_torch.cell_radius import cell_radius

COLOURS = Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
ZOO = {
    "mlp": Architecture((6,), (Affine(9), ReLU(), Affine(7), ReLU(), Affine(3))),
    "relu first and last": Architecture((6,), (ReLU(), Affine(4), Affine(5), ReLU())),
    "conv pool": Architecture(
        (3, 6, 6), (Conv(3), ReLU(), MaxPool(2), Conv(4), ReLU(), Flatten(), Affine(3))
    ),
    "pool first": Architecture(
        (3, 7, 5), (MaxPool(2), Conv(3), MaxPool(2), ReLU(), Flatten(), Affine(3))
    ),
    "batch norm": Architecture(
        (3, 4, 4),
        (
            COLOURS,
            Conv(4),
            BatchNorm(),
            ReLU(),
            MaxPool(2),
            Conv(3),
            BatchNorm(),
            ReLU(),
            MaxPool(2),
            Flatten(),
            Affine(3),
        ),
    ),
    "large windows": Architecture((3, 6, 6), (Conv(2), ReLU(), MaxPool(3), Flatten(), Affine(3))),
}
NORMS = [LpNorm(p) for p in (1, 2, math.inf, 1.5, 3)]

every_model = pytest.mark.parametrize("model", ZOO.values(), ids=ZOO)
every_p = pytest.mark.parametrize("p", NORMS, ids=str)


def parameters(model, seed=0):
    """Drawn weights, and statistics that are not those of an identity."""
    drawn = initial_parameters(model, seed)
    rng = np.random.default_rng(seed)
    for name, value in drawn.items():
        if name.endswith("running_mean"):
            drawn[name] = rng.standard_normal(value.shape)
        elif name.endswith("running_var"):
            drawn[name] = rng.uniform(0.3, 3, value.shape)
    return drawn


def build(model, seed=0, dtype="float64", **options):
    return TorchBackend().build(model, parameters=parameters(model, seed), dtype=dtype, **options)


def inputs(shape, batch=3, seed=0):
    return torch.from_numpy(np.random.default_rng([seed, 7]).standard_normal((batch, *shape)))


def pool_walls(z, size, *, stride=None, padding=0, dilation=1, ceil_mode=False):
    """Each entry of each window taken from the window's largest; ``(batch, m)``."""
    pooled = functional.max_pool2d(z, size, stride, padding, dilation, ceil_mode)
    (height, width), (k, m) = z.shape[-2:], (size, size) if isinstance(size, int) else size
    s = stride or k
    walls = []
    for i in range(pooled.shape[-2]):
        for j in range(pooled.shape[-1]):
            for a in range(k):
                for b in range(m):
                    row, column = i * s - padding + a * dilation, j * s - padding + b * dilation
                    if 0 <= row < height and 0 <= column < width:
                        walls.append(pooled[..., i, j] - z[..., row, column])
    return torch.stack(walls, dim=-1).flatten(1)


class Traced(nn.Module):
    """Says by hand, without any interception, what is zero on its cell's walls."""

    def trace(self, x):
        """Logits, walls ``(batch, m)``, and the pattern ``(batch, k)``."""
        raise NotImplementedError

    def forward(self, x):
        return self.trace(x)[0]


class Residual(Traced):
    """A skip, ReLU as a function, as a method and in place, overlapping windows with padding."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.third = nn.Linear(4 * 4, 6)
        self.last = nn.Linear(6, 5)
        for value in (self.norm.running_mean, self.norm.weight, self.norm.bias):
            nn.init.normal_(value)
        nn.init.uniform_(self.norm.running_var, 0.3, 3)

    def trace(self, x):
        a = self.norm(self.first(x))
        kept = [a.clone()]
        b = self.act(a)  # changes a as well
        c = self.second(b)
        kept.append(c.clone())
        z = a + functional.relu(c)
        kept.append(z.clone())
        z = functional.leaky_relu_(z - 0.1, 0.2)
        kept[-1] = kept[-1] - 0.1
        pooling = {"stride": 3, "padding": 1}
        walls = pool_walls(z, 3, **pooling)
        z, winners = functional.max_pool2d(z, 3, **pooling, return_indices=True)
        d = self.third(z.flatten(1))
        kept.append(d.clone())
        signs = [(value > 0).long().flatten(1) for value in kept]
        pattern = torch.cat([*signs, winners.flatten(1)], dim=1)
        walls = torch.cat([*(value.flatten(1) for value in kept), walls], dim=1)
        return self.last(d.relu()), walls, pattern


def residual(seed=0):
    torch.manual_seed(seed)
    return Residual().double().eval()


def gradients(module, x):
    """The walls at one example and the gradient of each, by autograd: ``(m,)``, ``(m, *shape)``."""

    def walls(z):
        return module.trace(z[None])[1][0]

    return walls(x).detach(), torch.func.jacrev(walls)(x).detach()


def nearest(walls, J, p):
    """The radius, and the direction (norm 1) that leads to the nearest wall."""
    steep = p.dual(J)
    distance = torch.where(steep > 0, walls.abs() / steep, math.inf)
    j = int(distance.argmin())
    return distance[j], -walls[j].sign() * p.duality_map(J[j : j + 1])[0]


@every_model
@every_p
def test_the_dense_reference(model, p):
    x = inputs(model.input_shape)
    reference = NumpyBackend().build(model, parameters=parameters(model), dtype="float64")
    wanted = reference.cell_radius(x.numpy(), p=p)
    assert np.all((wanted > 0) & (wanted < np.inf))
    network = build(model)
    np.testing.assert_allclose(network.cell_radius(x, p=p), wanted, rtol=1e-9)
    for norm in (p, p.p):
        np.testing.assert_allclose(cell_radius(network.module, x, p=norm), wanted, rtol=1e-9)


@every_p
def test_autograd_unit_by_unit(p):
    module, x = residual(), inputs((3, 4, 4), 2)
    wanted = torch.stack([nearest(*gradients(module, row), p)[0] for row in x])
    torch.testing.assert_close(cell_radius(module, x, p=p), wanted, rtol=1e-10, atol=0)


class Pooled(Traced):
    def __init__(self, size, options):
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding=1)
        self.size, self.options = size, options

    def trace(self, x):
        z = self.first(x)
        pooled = nn.MaxPool2d(self.size, **self.options)(z)
        return pooled.flatten(1), pool_walls(z, self.size, **self.options), None


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (2, {}),
        ((2, 3), {"stride": 2}),
        (3, {"stride": 1}),
        (3, {"stride": 2, "padding": 1}),
        (2, {"ceil_mode": True}),
        (3, {"stride": 2, "padding": 1, "ceil_mode": True}),
        (3, {"stride": 3, "padding": 1, "ceil_mode": True}),
        (2, {"dilation": 2, "stride": 1}),
        (2, {"dilation": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
        (1, {}),
    ],
    ids=str,
)
def test_windows(size, options):
    torch.manual_seed(1)
    module, x = Pooled(size, options).double(), inputs((2, 7, 6), 1)
    by_autograd = gradients(module, x[0])
    for p in NORMS[:3]:
        wanted = nearest(*by_autograd, p)[0][None]
        torch.testing.assert_close(cell_radius(module, x, p=p), wanted, rtol=1e-10, atol=0)


@pytest.mark.parametrize("chunk", [1, 48, 1000])
@every_p
def test_chunks_change_nothing(chunk, p):
    module, x = residual(), inputs((3, 4, 4), 1)
    found = cell_radius(module, x, p=p, chunk=chunk)
    torch.testing.assert_close(found, cell_radius(module, x, p=p, chunk=7), rtol=1e-13, atol=0)


@every_p
def test_examples_are_independent(p):
    module, x = residual(), inputs((3, 4, 4), 4)
    whole = cell_radius(module, x, p=p)
    assert whole.shape == (4,)
    alone = torch.cat([cell_radius(module, row[None], p=p) for row in x])
    assert torch.equal(whole, alone)
    assert cell_radius(module, x[:0], p=p).shape == (0,)


@every_model
def test_dtype_is_that_of_the_inputs(model):
    x = inputs(model.input_shape)
    for p in NORMS:
        found = build(model, dtype="float32").cell_radius(x.float(), p=p)
        assert found.dtype == torch.float32
        wanted = build(model).cell_radius(x, p=p)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=0)


@every_p
@pytest.mark.parametrize("seed", [0, 1])
def test_the_pattern_changes_at_the_radius_and_not_before(p, seed):
    module, x = residual(seed), inputs((3, 4, 4), 2, seed)
    rng = np.random.default_rng(seed)
    pattern = module.trace(x)[2]
    for row, kept, radius in zip(x, pattern, cell_radius(module, x, p=p), strict=True):
        _, towards = nearest(*gradients(module, row), p)
        corners = torch.from_numpy(p.sample_ball(rng, (50, *row.shape)))
        corners = p.duality_map(corners, ties="vertex")  # vertices of the ball for p = 1 and inf
        inside = torch.cat([corners, towards[None]]) * radius * (1 - 1e-6)
        assert torch.equal(module.trace(row + inside)[2], kept.expand(51, -1))
        outside = row + radius * (1 + 1e-6) * towards
        assert not torch.equal(module.trace(outside[None])[2][0], kept)


# By hand


def linear(weight, bias):
    layer = nn.Linear(len(weight[0]), len(weight)).double()
    layer.weight.data[:] = torch.tensor(weight)
    layer.bias.data[:] = torch.tensor(bias)
    return layer


def planted(weight, bias, *, inplace=False):
    return nn.Sequential(linear(weight, bias), nn.ReLU(inplace))


def point(*values):
    return torch.tensor([values], dtype=torch.float64)


@every_p
@pytest.mark.parametrize("inplace", [False, True])
def test_by_hand(p, inplace):
    # 5 / ||(3, 4)||_{p*} and 2 / ||(0, 1)||_{p*}
    module = planted([[3, 4], [0, 1]], [0, 3], inplace=inplace)
    steep = np.linalg.norm([3, 4], p.dual.p)
    found = cell_radius(module, point(3, -1), p=p)
    np.testing.assert_allclose(found, [min(5 / steep, 2)], rtol=1e-14)


@every_p
def test_a_unit_at_zero_gives_radius_zero(p):
    module = planted([[1, -1], [3, 0]], [0, 0])
    assert cell_radius(module, point(1, 1), p=p).tolist() == [0]
    assert cell_radius(module, point(2, 1), p=p) > 0


@every_p
def test_a_unit_without_gradient_has_no_wall(p):
    for bias in (1, 0, -1):
        assert cell_radius(planted([[0, 0]], [bias]), point(1, 2), p=p).tolist() == [math.inf]
        both = planted([[0, 0], [1, 0]], [bias, 0])
        assert cell_radius(both, point(1, 2), p=p).tolist() == [1]
    behind = nn.Sequential(*planted([[1, 0]], [-4]), *planted([[1]], [0]))  # nothing gets through
    assert cell_radius(behind, point(1, 2), p=p).tolist() == [3]
    discarded = Calls(lambda z: [z.relu_(), z][1])
    behind = nn.Sequential(linear([[1, 0]], [-4]), discarded, *planted([[1]], [1]))
    assert cell_radius(behind, point(1, 2), p=p).tolist() == [3]


@every_p
def test_no_hidden_units_no_walls(p):
    module = linear([[1, 2]], [0])
    assert cell_radius(module, torch.zeros(3, 2).double(), p=p).tolist() == [math.inf] * 3


@every_p
def test_a_tie_in_a_window(p):
    module = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
    tied = point(5, 5, 1, 0).reshape(1, 1, 2, 2)
    assert cell_radius(module, tied, p=p).tolist() == [0]
    # Entries that are one and the same pixel stay tied, and are no wall to one another.
    twice = nn.Sequential(nn.Upsample(scale_factor=2), nn.MaxPool2d(2), nn.Flatten())
    assert cell_radius(twice, tied, p=p).tolist() == [math.inf]
    # So do those that ReLUs switch off: the walls are those of the ReLUs.
    off = nn.Sequential(nn.ReLU(), *module)
    found = cell_radius(off, point(-5, -5, -1, -2).reshape(1, 1, 2, 2), p=p)
    assert found.tolist() == [1]


@pytest.mark.parametrize("p", [LpNorm(p) for p in (1, 1.1, 2, math.inf)], ids=str)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_steepness_neither_underflows_nor_overflows(p, scale):
    x = inputs((6,), 2).float()
    small, unit = build(ZOO["mlp"], dtype="float32"), build(ZOO["mlp"], dtype="float32")
    small.module[0].weight.data.mul_(scale)
    small.module[0].bias.data.mul_(scale)
    for network in (small, unit):
        network.module[2].bias.data.zero_()
    found, wanted = small.cell_radius(x, p=p), unit.cell_radius(x, p=p)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


RECTIFIERS = {
    "F.relu": functional.relu,
    "F.relu inplace": lambda z: functional.relu(z, inplace=True),
    "F.relu keyword": lambda z: functional.relu(input=z),
    "F.relu_": functional.relu_,
    "torch.relu": torch.relu,
    "torch.relu keyword": lambda z: torch.relu(input=z),
    "torch.relu_": torch.relu_,
    "relu": lambda z: z.relu(),
    "relu_": lambda z: z.relu_(),
    "nn": nn.ReLU(),
    "nn inplace": nn.ReLU(inplace=True),
    "leaky": lambda z: functional.leaky_relu(z, 0.2),
    "leaky positional": lambda z: functional.leaky_relu(z, 0.2, True),
    "leaky_": lambda z: functional.leaky_relu_(z, negative_slope=0.2),
    "nn leaky": nn.LeakyReLU(inplace=True),
    "changed afterwards": lambda z: [z.relu(), z.mul_(0)][0],
}


@pytest.mark.parametrize("function", RECTIFIERS.values(), ids=RECTIFIERS)
def test_every_way_to_call_relu(function):
    layers = linear([[1, 2], [3, -4]], [0.5, -1.25]), Calls(function), linear([[2, -1]], [1])
    x, p = point(0.5, 0.25), LpNorm(2)
    # The units are 1.5 and -0.75.
    assert cell_radius(nn.Sequential(*layers), x, p=p).item() == pytest.approx(0.15)


POOLS = {
    "nn": nn.MaxPool2d(2),
    "F": lambda z: functional.max_pool2d(z, 2),
    "torch": lambda z: torch.max_pool2d(z, 2),
    "torch keyword": lambda z: torch.max_pool2d(input=z, kernel_size=[2, 2], padding=[0, 0]),
    "indices": lambda z: functional.max_pool2d(z, 2, return_indices=True)[0],
    "nn indices": lambda z: nn.MaxPool2d(2, return_indices=True)(z)[0],
}


@pytest.mark.parametrize("function", POOLS.values(), ids=POOLS)
def test_every_way_to_call_max_pool2d(function):
    module = nn.Sequential(Calls(function), nn.Flatten())
    x = point(5, 2, 1, 0).reshape(1, 1, 2, 2)
    assert cell_radius(module, x, p=LpNorm(math.inf)).tolist() == [1.5]


# What is left alone and what is refused


def test_modes_gradients_and_buffers_are_left_alone():
    module = residual().train()
    module.norm.eval()
    module.first.weight.requires_grad_(False)
    modes = [part.training for part in module.modules()]
    wanted = [parameter.requires_grad for parameter in module.parameters()]
    state = {name: value.clone() for name, value in module.state_dict().items()}
    x = inputs((3, 4, 4), 1).requires_grad_(True)
    before = x.detach().clone()
    radius = cell_radius(module, x, p=LpNorm(2))
    assert not radius.requires_grad
    assert torch.equal(x, before)
    assert x.grad is None
    assert [part.training for part in module.modules()] == modes
    assert [parameter.requires_grad for parameter in module.parameters()] == wanted
    assert all(parameter.grad is None for parameter in module.parameters())
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_module_that_starts_in_place():
    x = point(1, -2, 3)
    found = cell_radius(
        nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2).double()), x, p=NORMS[0]
    )
    assert found.tolist() == [1]
    assert x.tolist() == [[1, -2, 3]]


def test_a_module_in_training_mode_is_seen_in_evaluation_mode():
    module = planted([[3, 4]], [0])
    module.append(Calls(lambda z: functional.dropout(z, training=module.training)))
    found = cell_radius(module.train(), point(1, 1), p=LpNorm(2))
    np.testing.assert_allclose(found, [7 / 5])
    assert module.training


def test_training_mode_is_refused_and_a_network_is_frozen():
    network = build(ZOO["batch norm"])
    x, p = inputs((3, 4, 4)), LpNorm(2)
    wanted = network.cell_radius(x, p=p)
    network.module.train()
    with pytest.raises(OnrError, match=r"'2' is in training mode.*eval"):
        cell_radius(network.module, x, p=p)
    assert torch.equal(network.cell_radius(x, p=p), wanted)
    assert all(part.training for part in network.module.modules())


def test_norms_of_plugins_are_refused():
    with pytest.raises(NotAvailableError, match=r"norm pixel-sum.*lp norm"):
        cell_radius(residual(), inputs((3, 4, 4)), p=PixelSum())


def between(function):
    return nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), Calls(function), nn.ReLU(), nn.Linear(8, 3)
    )


NAMED = {
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "tanh": nn.Tanh(),
    "sigmoid": torch.sigmoid,
    "softplus": nn.Softplus(),
    "elu": nn.ELU(),
    "softmax": nn.Softmax(dim=1),
    "hardtanh": nn.ReLU6(),
    "clamp": lambda z: z.clamp_(min=0),
    "abs": abs,
    "maximum": lambda z: torch.maximum(z, -z),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMED)
def test_other_nonlinearities_are_refused_by_name(name, dtype):
    torch.manual_seed(0)
    with pytest.raises(OnrError, match=f"uses {name}"):
        cell_radius(between(NAMED[name]).to(dtype), inputs((6,), 1).to(dtype), p=LpNorm(2))


UNNAMED = {
    "square": lambda z: z * z,
    "gate": lambda z: z * (z > 0.1),
    "where": lambda z: torch.where(z > 0, z, 0.1 * z),
    "normalised": lambda z: z / z.norm(),
    "layer norm": nn.LayerNorm(8),
    "sorted": lambda z: z.sort(dim=1)[0],
    "exp": torch.exp,
    "log": torch.log1p,
    "shrink": nn.Hardshrink(),
    "pooled": lambda z: functional.max_pool1d(z[:, None], 2)[:, 0].repeat(1, 2),
    "special": torch.special.expit,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", UNNAMED)
def test_other_nonlinearities_are_found_out(name, last, dtype):
    torch.manual_seed(0)
    module = between(UNNAMED[name])
    if last:  # behind every unit
        module = nn.Sequential(module[0], module[1], module[2], module[3])
    with pytest.raises(OnrError, match="another nonlinearity"):
        cell_radius(module.to(dtype), inputs((6,), 1).to(dtype), p=LpNorm(2))


def test_one_kinked_unit_is_found_out_on_either_side():
    for seed in range(8):
        torch.manual_seed(seed)
        kink = Calls(lambda z: torch.where(z > 0, z, 0))
        module = nn.Sequential(nn.Linear(4, 1), kink, nn.Linear(1, 2)).double()
        with pytest.raises(OnrError, match="another nonlinearity"):
            cell_radius(module, inputs((4,), 1, seed), p=LpNorm(1))


def test_functions_of_parameters_alone_are_no_nonlinearity():
    scale = torch.tensor([0.3, -0.2], dtype=torch.float64)
    mixed = Calls(lambda x: x * functional.softmax(scale, dim=0) * scale.abs().max())
    module = nn.Sequential(mixed, nn.ReLU())
    found = cell_radius(module, point(1, 2), p=LpNorm(2)).tolist()
    np.testing.assert_allclose(found, [1.0], rtol=1e-12)


def test_no_forward_mode_derivative_is_said():
    centre = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    sampled = Calls(lambda x: functional.grid_sample(x, centre, align_corners=False))
    with pytest.raises(OnrError, match="no forward-mode derivative"):
        cell_radius(nn.Sequential(sampled, nn.Flatten()), inputs((3, 4, 4), 1), p=LpNorm(2))
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with pytest.raises(OnrError, match="another nonlinearity"):
        cell_radius(nn.Sequential(block, nn.Flatten()), inputs((3, 8), 1).float(), p=LpNorm(2))


def test_deep_relu_networks_pass_the_check_in_float32():
    torch.manual_seed(0)
    blocks = []
    for width in (12, 12, 24, 24, 48, 48):
        blocks += [nn.LazyConv2d(width, 3, padding=1), nn.LazyBatchNorm2d(), nn.ReLU()]
    module = nn.Sequential(*blocks, nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.LazyLinear(10))
    module(torch.randn(50, 3, 4, 4) * 3 + 1)
    radius = cell_radius(module.eval(), torch.rand(3, 3, 4, 4), p=LpNorm(2))
    assert bool(((radius > 0) & (radius < math.inf)).all())


# Real images


def test_a_real_image():
    """The nearest wall is among the units closest to zero, whose gradients autograd gives."""
    place = os.environ.get("ONR_DATA_DIR")
    if not place:
        pytest.skip("ONR_DATA_DIR is not set: no real images to read")
    with np.load(Path(place) / "cifar10-test.npz") as arrays:
        image = arrays["images"][0].transpose(2, 0, 1)
    x = torch.from_numpy(image / 255)[None]
    colours = Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
    network = build(cnn7((3, 32, 32), 10, normalize=colours, width=4))

    def units(z):
        walls = []
        for layer in network.module:
            if isinstance(layer, nn.ReLU):
                walls.append(z.flatten(1))
            pooled = layer(z)
            if isinstance(layer, nn.MaxPool2d):
                entries = z.unfold(2, 2, 2).unfold(3, 2, 2)
                walls.append((pooled[..., None, None] - entries).flatten(1))
            z = pooled
        return torch.cat(walls, dim=1)

    values = units(x)[0].detach()
    ranked = torch.where(values == 0, math.inf, values.abs()).argsort()
    some = torch.cat([ranked[:150], ranked[150:15000:300]])
    leaf = x.repeat(len(some), 1, 1, 1).requires_grad_(True)
    units(leaf)[torch.arange(len(some)), some].sum().backward()
    p = LpNorm(2)
    steep = p.dual(leaf.grad)
    distance = torch.where(steep > 0, values[some].abs() / steep, math.inf)
    radius = network.cell_radius(x, p=p)
    np.testing.assert_allclose(radius, [distance.min()], rtol=1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_does():
    for model in ZOO.values():
        x = inputs(model.input_shape)
        for p in NORMS:
            found = build(model, device="cuda").cell_radius(x.cuda(), p=p)
            assert found.device.type == "cuda"
            wanted = build(model).cell_radius(x, p=p)
            torch.testing.assert_close(found.cpu(), wanted, rtol=1e-8, atol=0)
