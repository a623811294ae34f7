"""Models that are no sequence of layers: wide residual, torchvision's, the user's; weights."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from click.testing import CliRunner
from torch import nn
from torch.nn import functional

from onr.architectures import Normalize
from onr.cli.main import main
from onr.errors import OnrError, UnknownNameError
from onr.registry import load, located, registry
from onr.text import call
from onr.training.checkpoints import Checkpoint
from onr.training.runs import BEST, LAST, Run
from onr_torch.backend import TorchBackend
from onr_torch.linearization import jvp, linearize
from onr_torch.models.normalized import Normalized
from onr_torch.models.sequential import Standardize
from onr_torch.models.weights import read_weights

F64 = torch.float64
SHAPE = (3, 32, 32)
SMALL = (2, 6, 6)
NORMALIZE = {3: Normalize((0.5, 0.4, 0.3), (0.25, 0.2, 0.3)), 2: Normalize((0.5, 0.4), (0.2, 0.3))}


def model(spec, shape=SHAPE, classes=5, **options):
    """As the training loop has it from what a user writes."""
    return call(
        load("model", spec),
        {name: str(value) for name, value in options.items()},
        shape,
        classes,
        what=f"model {spec}",
        normalize=NORMALIZE[shape[0]],
    )


def built(spec, shape=SHAPE, classes=5, *, seed=0, parameters=None, dtype="float64", **options):
    return TorchBackend().build(
        lambda: model(spec, shape, classes, **options),
        seed=seed,
        parameters=parameters,
        dtype=dtype,
    )


def on_meta(spec, shape=SHAPE, classes=5, **options):
    with torch.device("meta"):
        return model(spec, shape, classes, **options)


def drawn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def trained(module):
    """With statistics and scales that are not those of an identity."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.3, 3)
            if part.affine:
                nn.init.uniform_(part.weight, 0.3, 3)
                nn.init.normal_(part.bias, std=0.3)
    return module


OWN = """
import torch
from torch import nn
from onr_torch.models.normalized import Normalized
from onr_torch.models.sequential import Standardize

class Net(nn.Module):
    def __init__(self, num_classes, *, width: int = 4):
        super().__init__()
        self.first = nn.Conv2d(2, width, 3)
        self.last = nn.Linear(16 * width, num_classes)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)).flatten(1))

class Shapes:
    @staticmethod
    def make(input_shape, classes, normalize, depth=1, scale=1.0, act="relu"):
        size = input_shape[0] * input_shape[1] * input_shape[2]
        net = nn.Sequential(Standardize(normalize, 3), nn.Flatten(), nn.Linear(size, classes))
        net.seen = (input_shape, classes, normalize, depth, scale, act)
        return net

net = Net(5)
scripted = "no model"

def images():
    return Net(3)

def pair():
    class Pair(Net):
        def forward(self, x):
            return super().forward(x), x
    return Pair(5)

def broken(classes):
    return Net(classes, height=3)

def unknown_type(classes, width):
    return Net(classes)

def required(classes, width: int):
    return Net(classes, width=width)

def other_shape(classes):
    net = Net(classes)
    net.input_shape = (2, 7, 7)
    return net

def frozen_shape(classes):
    net = Net(classes)
    net.input_shape = [2, 6, 6]
    return net

def nothing_to_train():
    return nn.Flatten()

def wrong_images(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, classes))

def no_module():
    return 5

def nowhere(classes):
    return Net(classes).to("meta")

def too_small(classes):
    return Net(classes).last
"""

BROKEN_LINE = OWN.splitlines().index("    return Net(classes, height=3)") + 1
LAST_LINE = (
    OWN.splitlines().index("        return self.last(torch.relu(self.first(x)).flatten(1))") + 1
)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with code of one's own, which is the current one."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(OWN)
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("from own_package.parts import *\n")
    (package / "parts.py").write_text(OWN)
    return tmp_path


# Linearisations

ZOO = {
    "wide": ("wrn-28-10", {"depth": 10, "width": 1}, SHAPE),
    "wider": ("wrn-28-10", {"depth": 16, "width": 2}, (2, 10, 7)),
    "resnet": ("torchvision:resnet18", {}, SHAPE),
    "mobilenet": ("torchvision:mobilenet_v2", {"width_mult": 0.25}, SHAPE),
    "own": ("own_net.py:Net", {"width": 3}, SMALL),
    "own with normalisation": ("own_net:Shapes.make", {}, SMALL),
}


@pytest.mark.parametrize("name", ZOO)
def test_the_linearisation_is_torchs_and_takes_the_fast_path(name, own):
    spec, options, shape = ZOO[name]
    network = built(spec, shape, **options)
    module = trained(network.module)
    x, v = drawn(3, *shape), drawn(3, *shape, seed=1) - 0.5
    u = drawn(3, 5, seed=2) - 0.5
    at = linearize(module, x)
    image = at.jvp(v)
    assert at.way == "replay"
    assert at._recorder.tape
    expected = jvp(module, x, v).detach()
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(at.value, module(x).detach())
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-12 * scale)
    left, right = (u * image).sum(1), (at.vjp(u) * v).flatten(1).sum(1)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-11 * scale)


# The wide residual network


def test_wrn_28_10_has_the_papers_size():
    module = on_meta("wrn-28-10", classes=10)
    assert sum(parameter.numel() for parameter in module.parameters()) == 36_479_194
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    assert len([part for part in convolutions if part.kernel_size == (3, 3)]) == 28 - 3
    assert len(convolutions) == 28
    assert module(torch.zeros(2, *SHAPE, device="meta", dtype=F64).float()).shape == (2, 10)


def naive_wide_resnet(state, x, normalize, blocks):
    """Section 2 of the paper, from the parameters alone."""

    def active(z, name):
        mean, var = (state[f"{name}.running_{kind}"] for kind in ("mean", "var"))
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        shape = (-1, 1, 1)
        scale = (weight / (var + 1e-5).sqrt()).reshape(shape)
        return ((z - mean.reshape(shape)) * scale + bias.reshape(shape)).clamp(min=0)

    mean, std = (torch.tensor(it, dtype=F64).reshape(-1, 1, 1) for it in vars(normalize).values())
    z = functional.conv2d((x - mean) / std, state["conv1.weight"], padding=1)
    for group in (1, 2, 3):
        for index in range(blocks):
            at = f"block{group}.layer.{index}"
            stride = 2 if group > 1 and index == 0 else 1
            before = active(z, f"{at}.bn1")
            inner = functional.conv2d(before, state[f"{at}.conv1.weight"], None, stride, 1)
            inner = active(inner, f"{at}.bn2")
            if f"{at}.convShortcut.weight" in state:
                z = functional.conv2d(before, state[f"{at}.convShortcut.weight"], None, stride)
            z = z + functional.conv2d(inner, state[f"{at}.conv2.weight"], padding=1)
    features = active(z, "bn1").flatten(2).mean(2)
    return features @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize(("depth", "width", "shape"), [(10, 2, SHAPE), (16, 1, (2, 9, 12))])
def test_wide_resnet_is_the_papers_function(depth, width, shape):
    module = trained(built("wrn-28-10", shape, depth=depth, width=width).module)
    x = drawn(2, *shape)
    naive = naive_wide_resnet(module.state_dict(), x, NORMALIZE[shape[0]], (depth - 4) // 6)
    torch.testing.assert_close(module(x).detach(), naive)


def test_wide_resnet_starts_with_he_s_law():
    module = built("wrn-28-10", depth=16, width=4).module
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            expected = math.sqrt(2 / (part.kernel_size[0] ** 2 * part.out_channels))
            count = part.weight.numel()
            assert abs(float(part.weight.detach().std()) / expected - 1) < 6 / math.sqrt(2 * count)
    assert not module.fc.bias.any()
    assert module.fc.weight.any()


def test_a_seed_determines_the_model():
    for spec, options in (("wrn-28-10", {"depth": 10, "width": 1}), ("torchvision:resnet18", {})):
        states = [built(spec, seed=seed, **options).module.state_dict() for seed in (3, 3, 4)]
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
        assert not torch.equal(*(next(iter(states[k].values())) for k in (0, 2)))


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"depth": 27}, SHAPE, r"depth = 27: expected 6 k \+ 4, as 22 or 28"),
        ({"depth": 4}, SHAPE, "as 10 or 16"),
        ({"depth": -2}, SHAPE, "as 10 or 16"),
        ({"width": 0}, SHAPE, "width = 0: expected a positive"),
        ({"depth": "ten"}, SHAPE, "'ten' is no whole number"),
        ({"dropout": 0.3}, SHAPE, "takes no option 'dropout': it takes depth, width"),
        ({}, (3,), r"takes images \(C, H, W\), got inputs \(3,\)"),
    ],
)
def test_what_is_no_wide_resnet(options, shape, message):
    with pytest.raises(OnrError, match=message):
        model("wrn-28-10", shape, **options)


# Torchvision


def test_a_torchvision_model_is_torchvisions_behind_the_normalisation():
    network = built("torchvision:resnet18", seed=7)
    torch.manual_seed(7)
    bare = torchvision.models.resnet18(num_classes=5).double().eval()
    x = drawn(2, *SHAPE)
    images = torchvision.transforms.functional.normalize(x, *vars(NORMALIZE[3]).values())
    torch.testing.assert_close(network(x), bare(images).detach())
    assert network.input_shape == SHAPE


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_training_mode_gives_logits_alone(name):
    module = on_meta(f"torchvision:{name}", (3, 96, 96)).train()
    assert module(torch.zeros(4, 3, 96, 96, device="meta")).shape == (4, 5)


def test_options_of_torchvision():
    module = on_meta("torchvision:vit_b_32", image_size=32, dropout="1/2")
    assert module.model.image_size == 32
    assert module.model.encoder.dropout.p == 0.5


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("torchvision:resnet81", {}, "no classifier 'resnet81': expected one as .*resnet18"),
        ("torchvision:fcn_resnet50", {}, "no classifier 'fcn_resnet50'"),
        ("torchvision:zzz", {}, "alexnet.*wide_resnet50_2"),
        ("torchvision:", {}, "no classifier ''"),
        ("torchvision", {}, "needs an argument: write torchvision:ARGUMENT"),
        ("torchvision:alexnet", {}, r"not take inputs of shape \(3, 32, 32\).*try larger images"),
        ("torchvision:vit_b_32", {}, r"Wrong image height.*option \(it takes image_size"),
        ("torchvision:vit_b_32", {"image_size": 33}, "cannot be built.*indivisible"),
        ("torchvision:vit_b_32", {"patch_size": 4}, "cannot be built.*patch_size"),
        ("torchvision:resnet18", {"num_classes": 3}, "no option 'num_classes': it takes"),
        ("torchvision:googlenet", {"aux_logits": 1}, "no option 'aux_logits'"),
        ("torchvision:resnet18", {"groups": "a"}, "'a' is no whole number"),
    ],
)
def test_what_is_no_torchvision_model(spec, options, message):
    with pytest.raises(OnrError, match=message):
        on_meta(spec, **options)


def test_grey_images_are_refused_by_a_model_of_colours():
    with pytest.raises(OnrError, match=r"inputs of shape \(2, 64, 64\).*channels"):
        model("torchvision:resnet18", (2, 64, 64))


# The user's own

FORMS = ["own_net:{}", "own_net.py:{}", "own_package.nets:{}", "python:own_package/parts.py:{}"]


@pytest.mark.parametrize("form", [*FORMS, "onr_torch:python:own_net:{}"])
@pytest.mark.parametrize("attribute", ["Net", "net", "Shapes.make"])
def test_a_model_of_ones_own(form, attribute, own):
    network = built(form.format(attribute), SMALL)
    assert network.input_shape == SMALL
    assert network(drawn(4, *SMALL)).shape == (4, 5)


def test_a_function_is_given_what_it_names(own):
    found = model("own_net.py:Shapes.make", SMALL, depth="3", scale="1/2", act="inf")
    assert found.seen == (SMALL, 5, NORMALIZE[2], 3, 0.5, "inf")
    assert isinstance(found.seen[3], int)
    assert model("own_net.py:required", SMALL, width=7).first.out_channels == 7


def test_annotations_may_be_text_and_dataclasses_may_be_there(own):
    (own / "later.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from torch import Tensor\n"
        "from own_net import Net\n"
        "@dataclass\nclass Config:\n    width: int\n"
        "def make(classes: int, width: int | None = 4):\n"
        "    return Net(classes, width=Config(width).width)\n"
        "def hidden(classes, like: Tensor = None, width=4):\n"
        "    return Net(classes, width=width)\n"
    )
    for attribute in ("make", "hidden"):
        assert model(f"later.py:{attribute}", SMALL, width=6).first.out_channels == 6


def test_the_example_in_the_documentation(own):
    text = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    source = text.partition("```python\n# net.py\n")[2].partition("```")[0]
    (own / "net.py").write_text(source)
    assert built("net.py:Net", SMALL, width=3).module.hidden.weight.shape == (3, 72)


def test_pixels_reach_ones_own_model_as_they_are(own):
    network = built("own_net:Net", SMALL)
    x = drawn(2, *SMALL)
    torch.testing.assert_close(network(x), network.module(x).detach())


def test_no_two_networks_share_parameters(own):
    first, second = (built("own_net:net", SMALL).module for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
        value.zero_()
        assert second.state_dict()[name].any()


def test_a_seed_determines_ones_own(own):
    for attribute in ("Net", "net"):
        weights = [
            built(f"own_net.py:{attribute}", SMALL, seed=seed).module.last.weight
            for seed in (1, 1, 2)
        ]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])


def test_a_normalisation_of_ones_own_keeps_its_precision(own):
    module = built("own_net:Shapes.make", SMALL).module
    assert module[0].mean.flatten().tolist() == [0.5, 0.4]
    assert built("own_net:frozen_shape", SMALL).input_shape == SMALL


def test_a_file_finds_its_neighbours_from_elsewhere(own, monkeypatch):
    (own / "neighbour.py").write_text("from own_net import Net\n")
    elsewhere = own / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert built("../neighbour.py:Net", SMALL).input_shape == SMALL


BAD = {
    "no file": ("gone.py:Net", {}, r"no file .*gone\.py: expected FILE\.py:ATTRIBUTE"),
    "no module": ("gone.nets:Net", {}, r"no Python module is named 'gone\.nets' \(looked in"),
    "a mistyped plugin": ("torchvison:resnet18", {}, "'onr plugins' lists the models"),
    "no submodule": ("own_package.gone:Net", {}, r"named 'own_package\.gone'"),
    "no attribute": ("own_net:Nett", {}, "own_net has no Nett"),
    "no attribute's attribute": ("own_net:Net.make", {}, "own_net has no Net.make"),
    "no argument": ("python", {}, "needs an argument: write python:ARGUMENT"),
    "no attribute given": ("python:own_net", {}, "expected MODULE:ATTRIBUTE"),
    "an empty attribute": ("python:own_net:", {}, "expected MODULE:ATTRIBUTE"),
    "text": ("own_net:scripted", {}, "is a str: expected an nn.Module"),
    "gives a number": ("own_net:no_module", {}, "gives a int: expected an nn.Module"),
    "unknown option": ("own_net:Net", {"depth": 2}, "no option 'depth': it takes width"),
    "option of a module": ("own_net:net", {"width": 2}, "no option 'width': it takes none"),
    "option given by us": ("own_net:Net", {"num_classes": 2}, "no option 'num_classes'"),
    "unreadable option": ("own_net:Net", {"width": "x"}, "'x' is no whole number"),
    "no switch": (
        "torchvision:densenet121",
        {"memory_efficient": "on"},
        "'on' is neither true nor",
    ),
    "option missing": ("own_net:required", {}, "needs width: give --model-option width=VALUE"),
    "no annotation": ("own_net:unknown_type", {}, "needs width.*annotation"),
    "raises": (
        "own_net.py:broken",
        {},
        rf"cannot be built: TypeError.*, line {BROKEN_LINE}\)",
    ),
    "wrong images": ("own_net:wrong_images", {}, r"does not take inputs of shape \(2, 6, 6\)"),
    "no location": ("own_net:too_small", {}, r"not take .* shapes cannot be multiplied[^/]*$"),
    "wrong classes": ("own_net:images", {}, r"gives \(2, 3\) for two inputs.*expected \(2, 5\)"),
    "a pair": ("own_net:pair", {}, r"gives a tuple"),
    "no parameters": ("own_net:nothing_to_train", {}, "has no parameters"),
    "another shape": ("own_net:other_shape", {}, r"input_shape = \(2, 7, 7\), the data set's"),
    "a built-in": ("math:sqrt", {}, "cannot be built: TypeError"),
    "no signature": ("builtins:dict", {}, "gives a dict: expected an nn.Module"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_model_of_ones_own(name, own):
    spec, options, message = BAD[name]
    with pytest.raises(OnrError, match=message):
        model(spec, SMALL, **options)


def test_the_line_in_ones_own_code_is_named(own):
    with pytest.raises(
        OnrError, match=rf"cannot be multiplied \(.*own_net\.py, line {LAST_LINE}\)"
    ):
        model("own_net.py:Net", (2, 7, 7))


def test_photographs_of_another_size_have_a_way_out(own):
    told = r"shape \(3, 6, 6\): .*; if it takes other sizes, folder:PATH@RESIZE,CROP resizes"
    with pytest.raises(OnrError, match=told):
        model("own_net:too_small", (3, 6, 6))


def test_a_model_may_be_elsewhere_than_on_the_cpu(own):
    assert model("own_net:nowhere", SMALL).last.weight.is_meta


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("x = 1\n1 / 0", r"ZeroDivisionError: division by zero \(.*bad_net\.py, line 2\)"),
        ("def", r"SyntaxError: .*bad_net\.py, line 1"),
        ("raise SystemExit('a script')", "SystemExit: a script"),
    ],
)
@pytest.mark.parametrize("spec", ["bad_net:Net", "bad_net.py:Net"])
def test_code_that_cannot_be_imported(spec, source, message, own):
    (own / "bad_net.py").write_text(source + "\n")
    with pytest.raises(
        OnrError, match=rf"^(/.*)?bad_net(\.py)? cannot be (run|imported): {message}"
    ):
        load("model", spec)


@pytest.mark.parametrize(
    "spec", ["mpl", "net.py", "mpl:2", "a b:c", "onr_paper:Net", "onr_torch:Net", ":x", "x:"]
)
def test_a_mistyped_name_is_unknown(spec):
    with pytest.raises(UnknownNameError, match=f"unknown model '{spec}': expected one of cnn7, "):
        load("model", spec)


def test_only_a_model_may_be_code():
    with pytest.raises(UnknownNameError, match="unknown norm 'math:sqrt'"):
        load("norm", "math:sqrt")


def test_names_come_before_code(own):
    (own / "mlp.py").write_text(OWN)
    with pytest.raises(OnrError, match="mlp takes no argument"):
        load("model", "mlp:Net")
    assert model("mlp.py:Net", SMALL).input_shape == SMALL


def test_a_located_name_is_good_everywhere(own, monkeypatch):
    specs = ("mlp", "torchvision:net.py:Net", "own_net:Net", "python:own_net:Net")
    assert [located(spec) for spec in specs] == list(specs)
    forms = ("own_net.py:Net", "python:own_net.py:Net", f"{own}/own_net.py:Net")
    places = {located(form) for form in forms}
    assert places == {f"python:{own / 'own_net.py'}:Net"}
    monkeypatch.chdir("/")
    (place,) = places
    assert located(place) == place
    assert built(place, SMALL).input_shape == SMALL
    with pytest.raises(UnknownNameError):
        located("nothing")


# Weights


def module_of_weights(seed=5):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 5))


def state_dicts():
    state = module_of_weights().state_dict()
    yield "plain", state
    yield "parallel", {f"module.{name}": value for name, value in state.items()}
    for key in ("state_dict", "model", "model_state_dict"):
        yield key, {"epoch": 3, "optimizer": {"lr": 0.1}, key: state}
    yield "nested", {"model": {"state_dict": {f"module.{k}": v for k, v in state.items()}}}
    yield "nested the other way", {"state_dict": {"model": state}}
    yield "parameters", dict(module_of_weights().named_parameters())


SAVED = dict(state_dicts())


@pytest.mark.parametrize("name", SAVED)
def test_weights_from_torch_save(name, tmp_path):
    torch.save(SAVED[name], tmp_path / "weights.pt")
    expected = module_of_weights().state_dict()
    if name == "parameters":
        expected = dict(module_of_weights().named_parameters())
    found = read_weights(tmp_path / "weights.pt")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value.detach(), strict=True)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_keep_their_value_in_every_float_type(suffix, tmp_path):
    file = tmp_path / f"weights.{suffix}"
    values = torch.tensor([1.0, 1.5, -3e38, 2e-38])
    kinds = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    state = {str(kind): values.to(kind) for kind in kinds} | {"count": torch.tensor(3)}
    if suffix == "pt":
        torch.save(state, file)
    else:
        safetensors.torch.save_file(state, file)
    found = read_weights(file)
    assert found.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value.double())
    types = ["float32", "float16", "float32", "float64", "int64"]
    assert [str(found[name].dtype) for name in state] == types


def test_parallel_weights_in_safetensors(tmp_path):
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"module.a": torch.ones(2)}, file)
    assert list(read_weights(file)) == ["a"]
    safetensors.torch.save_file({"module.a": torch.ones(2), "b": torch.ones(1)}, file)
    assert set(read_weights(file)) == {"module.a", "b"}


def test_weights_of_a_run(tmp_path):
    run = Run.create(tmp_path / "run", {})
    for step, best in ((1, True), (2, False)):
        tensors = {"model.module.a": np.full(2, step), "optimizer.0.step": np.zeros(1)}
        run.save(Checkpoint(tensors, step, [{"epoch": 1}] * step), best=best)
    for path, step in ((run.path, 2), (run.path / LAST, 2), (run.path / BEST, 1)):
        found = read_weights(path)
        assert list(found) == ["module.a"]
        np.testing.assert_array_equal(found["module.a"], np.full(2, step))


def files_that_hold_no_weights():
    def saved(value, **how):
        return lambda path: torch.save(value, path, **how)

    def cut(path):
        torch.save(module_of_weights().state_dict(), path)
        path.write_bytes(path.read_bytes()[:-100])

    yield "gone.pt", lambda path: None, "no file .*gone.pt"
    yield "text.pt", lambda path: path.write_text("hello"), "damaged or was not written by torch"
    yield "empty.pt", lambda path: path.touch(), "damaged or was not written by torch.save"
    yield "cut.pt", cut, "damaged or was not written by torch.save"
    yield "list.pt", saved([torch.ones(2)]), "holds a list: expected a state dict"
    yield "none.pt", saved({}), "holds a dict: expected a state dict"
    yield "number.pt", saved({"epoch": 3, "lr": 0.1}), "holds a int under 'epoch'.*model_state_dict"
    yield "keys.pt", saved({3: torch.ones(2)}), "holds a Tensor under 3"
    yield "module.pt", saved(nn.Linear(2, 2)), r"holds torch\.nn\.modules\.linear\.Linear, which"
    yield "args.pt", saved({"args": argparse.Namespace()}), "holds argparse.Namespace, which code"
    yield "code.pt", saved(Runs()), r"system.*, which code would have to be run"
    yield "old.pt", saved(Runs(), _use_new_zipfile_serialization=False), "which code would have to"
    yield "x.safetensors", lambda path: path.write_text("hello"), "damaged or no safetensors file"
    yield "y.safetensors", saved({"a": torch.ones(2)}), "damaged or no safetensors file"
    yield "folder", lambda path: path.mkdir(), "holds no run"


class Runs:
    """Whoever unpickles this runs a command."""

    def __reduce__(self):
        import os

        return os.system, ("touch was_run",)


NO_WEIGHTS = list(files_that_hold_no_weights())


@pytest.mark.parametrize(("name", "make", "message"), NO_WEIGHTS, ids=[it[0] for it in NO_WEIGHTS])
def test_files_that_hold_no_weights(name, make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    with pytest.raises(OnrError, match=message) as caught:
        read_weights(tmp_path / name)
    assert name in str(caught.value)
    assert not (tmp_path / "was_run").exists()


def test_weights_of_a_bare_model_fit_its_wrapper(tmp_path):
    bare = torchvision.models.resnet18(num_classes=5)
    torch.save(bare.state_dict(), tmp_path / "bare.pt")
    network = built("torchvision:resnet18", parameters=read_weights(tmp_path / "bare.pt"))
    wrapped = network.module.state_dict()
    for name, value in bare.state_dict().items():
        torch.testing.assert_close(wrapped[f"model.{name}"], value, check_dtype=False)

    class Bare(torchvision.models.ResNet):
        input_shape = SHAPE

    block = torchvision.models.resnet.BasicBlock
    again = TorchBackend().build(
        Bare(block, [2, 2, 2, 2], num_classes=5),
        parameters=network.parameters(),
    )
    for name, value in bare.state_dict().items():
        assert torch.equal(again.module.state_dict()[name], value)


def test_weights_that_fit_are_not_renamed():
    inner = nn.Linear(3, 5, bias=False)
    module = Normalized(nn.Sequential(inner), (3,), NORMALIZE[3])
    parameters = {"model.0.weight": np.ones((5, 3))}
    TorchBackend().build(module, parameters=parameters)
    assert (inner.weight == 1).all()
    assert isinstance(module.normalize, Standardize)


def test_weights_of_a_wrapper_that_lack_some_stay_its_own():
    class Twice(nn.Module):
        input_shape = (3,)

        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3, bias=False)
            self.a.a = nn.Linear(3, 3, bias=False)

    with pytest.raises(OnrError, match=r"missing \['a.a.weight'\]$"):
        TorchBackend().build(Twice(), parameters={"a.weight": np.ones((3, 3))})


def test_weights_that_do_not_fit_say_which():
    network = built("torchvision:resnet18")
    parameters = network.parameters()
    with pytest.raises(OnrError, match=r"of another shape \['model.fc.weight: \(5, 512\) for \(4"):
        built("torchvision:resnet18", classes=4, parameters=parameters)
    with pytest.raises(OnrError) as caught:
        built("torchvision:resnet34", parameters=parameters)
    assert "missing ['model.layer1.2.conv1.weight', 'model.layer1.2" in str(caught.value)
    assert "and 77 more" in str(caught.value)
    assert "unexpected" not in str(caught.value)
    with pytest.raises(OnrError) as caught:
        built("wrn-28-10", depth=10, width=1, parameters={"a": np.ones(1), "b": np.ones(1)})
    assert "missing ['conv1.weight', " in str(caught.value)
    assert "unexpected ['a', 'b']" in str(caught.value)


# The command line


def onr(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Twenty images of 32 x 32 pixels in three colours and of 6 x 6 in two, as data sets."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for channels, height, width in (SHAPE, SMALL):
        images = rng.integers(0, 256, (20, height, width, channels)).astype(np.uint8)
        for part in ("train", "test"):
            file = folder / f"{channels}-{part}.npz"
            np.savez(file, images=images, labels=np.arange(20) % 5)
    return {channels: f"npz:{folder / str(channels)}" for channels in (3, 2)}


@pytest.mark.parametrize(
    ("spec", "options", "method"),
    [
        ("wrn-28-10", ("depth=10", "width=1"), ("at", "--steps", "1", "--eps", "0.1")),
        ("wrn-28-10", ("depth=10", "width=1"), ("dd-snr", "--steps", "1", "--form", "jacobian")),
        ("torchvision:resnet18", (), ("dd-snr", "--steps", "1")),
    ],
)
def test_a_run_trains_and_is_evaluated(spec, options, method, colours, tmp_path):
    out = tmp_path / "run"
    chosen = [it for option in options for it in ("--model-option", option)]
    small = ("--train-images", "8", "--batch-size", "8", "--epochs", "1", "--out", out)
    data = ("--dataset", colours[3])
    result = onr("train", *data, "--model", spec, *chosen, "--method", *method, *small)
    assert result.exit_code == 0, result.stderr
    less = ("--images", "4", "--steps", "1", "--eps", "0.1", "--spectrum", "1", "--no-plot")
    result = onr("evaluate", out, *less)
    assert result.exit_code == 0, result.stderr
    config = Run.open(out).config
    assert config["served"]["model"]["plugin"] == "onr_torch"
    before = built(spec, dtype="float32", **dict(option.split("=") for option in options))
    after = read_weights(out)
    assert any(
        not np.array_equal(after[name], value) for name, value in before.parameters().items()
    )


def test_a_run_with_a_model_of_ones_own(colours, own, monkeypatch):
    out = own / "run"
    small = ("--train-images", "8", "--epochs", "2", "--out", out)
    torch.save({"model": built("own_net.py:Net", SMALL, width=2).module.state_dict()}, "start.pt")
    options = ("--model", "own_net.py:Net", "--model-option", "width=2", "--weights", "start.pt")
    result = onr("train", "--dataset", colours[2], *options, *small)
    assert result.exit_code == 0, result.stderr
    monkeypatch.chdir("/")
    assert onr("train", "--resume", out).exit_code == 0
    less = ("--images", "4", "--steps", "1", "--spectrum", "1", "--no-plot")
    result = onr("evaluate", out, *less)
    assert result.exit_code == 0, result.stderr
    assert read_weights(out)["first.weight"].shape == (2, 2, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "torchvision:resnet81"), "no classifier 'resnet81'"),
        (("--model", "gone.py:Net"), "no file"),
        (("--model", "own_net:broken"), f"own_net.py, line {BROKEN_LINE})"),
        (("--model", "own_net:Net", "--backend", "numpy"), "backend numpy takes sequential models"),
        (("--model", "own_net:Net", "--model-option", "depth=3"), "no option 'depth'"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, message, colours, own):
    result = onr("train", "--dataset", colours[2], *arguments, "--out", own / "run")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not (own / "run").exists()


def test_the_models_are_listed():
    names = {entry.name for _, entry in registry().offers("model")}
    assert names >= {"wrn-28-10", "torchvision", "python", "timm", "hf"}
    assert all(f" {name} " in onr("plugins").stdout for name in names)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)]
)
def test_switches_are_read(text, value):
    def target(*, switch: bool = False, perhaps: bool | None = None):
        return switch, perhaps

    found = call(target, {"switch": text, "perhaps": text}, what="it")
    assert found == (value, value)
    assert all(isinstance(read, bool) for read in found)
    with pytest.raises(OnrError, match="'yes' is neither true nor false"):
        call(target, {"switch": "yes"}, what="it")
