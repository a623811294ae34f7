"""What J v, J^T u and a norm iteration cost in forward passes: ``pytest --benchmark-only``."""

import pytest
import torch
import torchvision
from torch import nn
from turns import DEVICE, in_turns, ratios

import onr


class Residual(nn.Module):
    """Two convolutions and a skip, which is a convolution where the shape changes."""

    def __init__(self, inner, outer, stride):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outer),
        )
        same = stride == 1 and inner == outer
        turned = (nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        self.skip = nn.Sequential(*(() if same else turned))

    def forward(self, x):
        return torch.relu(self.layers(x) + self.skip(x))


def resnet20():
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for inner, outer, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += [Residual(inner, outer, stride), Residual(outer, outer, 1)]
        layers += [Residual(outer, outer, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet18():
    """The form for CIFAR-10: no stride and no pooling at the start."""
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return model


def deit():
    return pytest.importorskip("timm").create_model("deit_small_patch16_224")


NETWORKS = {
    "resnet20": (resnet20, 32, 32, 2.5),
    "resnet18": (resnet18, 8, 32, 2.5),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, 2, 224, 2.5),
    "convnext_tiny": (torchvision.models.convnext_tiny, 2, 224, 2.5),
    "swin_t": (torchvision.models.swin_t, 2, 224, 3.5),
    "vit_b_16": (torchvision.models.vit_b_16, 2, 224, 3.5),
    "deit_small": (deit, 2, 224, 3.5),
}
"""How to build each network, the batch, the size of the images, the bar in forward passes."""


@pytest.mark.benchmark(group="J v and J^T u of onr.linearize, in forwards of the module")
@pytest.mark.parametrize("name", NETWORKS)
def test_norm_iteration(benchmark, name):
    build, batch, size, bar = NETWORKS[name]
    torch.manual_seed(0)
    module = build().eval().to(DEVICE)
    x = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last).to(DEVICE)
    v, at = torch.randn_like(x), onr.linearize(module, x)
    u = torch.randn_like(at.value)

    def forward():
        with torch.no_grad():
            module(x)

    def both():
        at.jvp(v)
        at.vjp(u)

    works = {"forward": forward, "jvp": lambda: at.jvp(v), "vjp": lambda: at.vjp(u), "both": both}
    taken = in_turns(works)
    found = ratios(benchmark, taken, "forward")
    benchmark.extra_info["way"] = at.way
    benchmark.pedantic(forward, rounds=1)
    assert at.way == "replay"
    assert found["both"] <= bar
