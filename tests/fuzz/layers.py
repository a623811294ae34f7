"""The layers of torch and torchvision, one case each, between two affine maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torchvision
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrizations, parametrize, prune

from fuzz.cases import CLASSES, EITHER, REFUSED, Case, First, Of, between

ROW, WORDS, SIGNAL, IMAGE, VOLUME = (6,), (4, 6), (2, 8), (4, 6, 6), (2, 4, 4, 4)


def layer(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], **more) -> Case:
    return Case(name, lambda: between(make(), shape), shape, **more)


ACTIVATIONS = [
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU"),
    *("LogSigmoid", "Mish", "PReLU", "ReLU", "ReLU6", "RReLU", "SELU", "SiLU", "Sigmoid"),
    *("Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink"),
]


def activations() -> Iterator[Case]:
    for name in ACTIVATIONS:
        yield layer(name, getattr(nn, name), ROW)
    yield layer("GELU-tanh", lambda: nn.GELU("tanh"), ROW)
    yield layer("Threshold", lambda: nn.Threshold(0.1, -0.3), ROW)
    yield layer("GLU", nn.GLU, ROW)
    yield layer("Softmax", lambda: nn.Softmax(1), ROW)
    yield layer("Softmin", lambda: nn.Softmin(1), ROW)
    yield layer("LogSoftmax", lambda: nn.LogSoftmax(1), ROW)
    yield layer("Softmax2d", nn.Softmax2d, IMAGE)
    yield layer("ReLU-inplace", lambda: nn.ReLU(inplace=True), IMAGE)
    yield layer("SiLU-inplace", lambda: nn.SiLU(inplace=True), IMAGE)
    yield layer("Hardswish-inplace", lambda: nn.Hardswish(inplace=True), IMAGE)


def with_statistics(norm: nn.Module) -> nn.Module:
    """Running statistics and scales that are not those of the identity."""
    for part in norm.modules():
        if getattr(part, "running_mean", None) is not None and not is_lazy(part.running_mean):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.3, 3)
        for scale in part._parameters.values():
            if scale is not None and not is_lazy(scale):
                nn.init.uniform_(scale, 0.5, 1.5)
    return norm


def norms() -> Iterator[Case]:
    for name, make, shape in (
        ("BatchNorm1d", lambda: nn.BatchNorm1d(6), ROW),
        ("BatchNorm2d", lambda: nn.BatchNorm2d(4), IMAGE),
        ("BatchNorm2d-momentum-1", lambda: nn.BatchNorm2d(4, momentum=1.0), IMAGE),
        ("BatchNorm2d-cumulative", lambda: nn.BatchNorm2d(4, momentum=None), IMAGE),
        ("BatchNorm2d-plain", lambda: nn.BatchNorm2d(4, affine=False), IMAGE),
        ("BatchNorm3d", lambda: nn.BatchNorm3d(2), VOLUME),
        ("LazyBatchNorm2d", nn.LazyBatchNorm2d, IMAGE),
        ("GroupNorm", lambda: nn.GroupNorm(2, 4), IMAGE),
        ("InstanceNorm1d", lambda: nn.InstanceNorm1d(2, affine=True), SIGNAL),
        ("InstanceNorm2d", lambda: nn.InstanceNorm2d(4), IMAGE),
        ("InstanceNorm2d-tracked", lambda: nn.InstanceNorm2d(4, track_running_stats=True), IMAGE),
        ("InstanceNorm3d", lambda: nn.InstanceNorm3d(2, affine=True), VOLUME),
        ("LayerNorm", lambda: nn.LayerNorm(6), ROW),
        ("LayerNorm-image", lambda: nn.LayerNorm([4, 6, 6]), IMAGE),
        ("LocalResponseNorm", lambda: nn.LocalResponseNorm(3, 0.5), IMAGE),
        ("CrossMapLRN2d", lambda: nn.CrossMapLRN2d(3, 0.5), IMAGE),
        ("RMSNorm", lambda: nn.RMSNorm(6), ROW),
        ("FrozenBatchNorm2d", lambda: torchvision.ops.FrozenBatchNorm2d(4), IMAGE),
    ):
        # torch's backward pass of this layer is not the derivative of its value.
        more = {"expected": EITHER, "smooth": False} if name == "CrossMapLRN2d" else {}
        yield layer(name, lambda make=make: with_statistics(make()), shape, **more)
    yield layer(
        "BatchNorm2d-without-statistics",
        lambda: nn.BatchNorm2d(4, track_running_stats=False),
        IMAGE,
        expected=REFUSED,
        mixes=True,
    )


def pooling() -> Iterator[Case]:
    yield layer("MaxPool1d", lambda: nn.MaxPool1d(2), SIGNAL)
    yield layer("MaxPool2d", lambda: nn.MaxPool2d(3, 2, 1), IMAGE)
    yield layer(
        "MaxPool2d-ceil-dilated", lambda: nn.MaxPool2d(2, 2, dilation=2, ceil_mode=True), IMAGE
    )
    yield layer("MaxPool3d", lambda: nn.MaxPool3d(2), VOLUME)
    yield layer("AvgPool1d", lambda: nn.AvgPool1d(2), SIGNAL)
    yield layer("AvgPool2d", lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE)
    yield layer("AvgPool3d", lambda: nn.AvgPool3d(2), VOLUME)
    yield layer("LPPool1d", lambda: nn.Sequential(nn.Softplus(), nn.LPPool1d(3, 2)), SIGNAL)
    yield layer("LPPool2d", lambda: nn.LPPool2d(2, 2), IMAGE)
    yield layer("AdaptiveAvgPool1d", lambda: nn.AdaptiveAvgPool1d(3), SIGNAL)
    yield layer("AdaptiveAvgPool2d", lambda: nn.AdaptiveAvgPool2d(4), IMAGE)
    yield layer("AdaptiveAvgPool3d", lambda: nn.AdaptiveAvgPool3d(3), VOLUME)
    yield layer("AdaptiveMaxPool1d", lambda: nn.AdaptiveMaxPool1d(3), SIGNAL)
    yield layer("AdaptiveMaxPool2d", lambda: nn.AdaptiveMaxPool2d(4), IMAGE)
    yield layer("AdaptiveMaxPool3d", lambda: nn.AdaptiveMaxPool3d(3), VOLUME)
    yield layer(
        "FractionalMaxPool2d",
        lambda: nn.FractionalMaxPool2d(2, output_size=3),
        IMAGE,
        expected=EITHER,
        draws=True,
    )

    def unpool(self, x):
        found, where = self.pool(x)
        return nn.functional.max_unpool2d(found.square(), where, 2)

    yield layer("MaxUnpool2d", lambda: Of(unpool, pool=nn.MaxPool2d(2, return_indices=True)), IMAGE)


def shapes() -> Iterator[Case]:
    for name, make, shape in (
        ("ReflectionPad2d", lambda: nn.ReflectionPad2d(2), IMAGE),
        ("ReplicationPad3d", lambda: nn.ReplicationPad3d(1), VOLUME),
        ("ConstantPad1d", lambda: nn.ConstantPad1d(2, 0.7), SIGNAL),
        ("ZeroPad2d-negative", lambda: nn.ZeroPad2d((1, -1, 2, -2)), IMAGE),
        ("CircularPad2d", lambda: nn.CircularPad2d(2), IMAGE),
        ("Conv1d", lambda: nn.Conv1d(2, 3, 3, stride=2), SIGNAL),
        ("Conv2d-circular", lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), IMAGE),
        ("Conv2d-grouped-dilated", lambda: nn.Conv2d(4, 8, 3, groups=2, dilation=2), IMAGE),
        ("Conv2d-depthwise", lambda: nn.Conv2d(4, 4, 3, groups=4, padding="same"), IMAGE),
        ("Conv3d", lambda: nn.Conv3d(2, 3, 2), VOLUME),
        ("ConvTranspose1d", lambda: nn.ConvTranspose1d(2, 3, 3, stride=2), SIGNAL),
        ("ConvTranspose2d", lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1), IMAGE),
        ("ConvTranspose3d", lambda: nn.ConvTranspose3d(2, 2, 2), VOLUME),
        ("LazyConv2d", lambda: nn.LazyConv2d(3, 3), IMAGE),
        ("LazyLinear", lambda: nn.LazyLinear(5), ROW),
        ("Unfold", lambda: nn.Unfold(3), IMAGE),
        ("Fold", lambda: nn.Sequential(nn.Unfold(3), nn.Fold((6, 6), 3)), IMAGE),
        ("PixelShuffle", lambda: nn.PixelShuffle(2), IMAGE),
        ("PixelUnshuffle", lambda: nn.PixelUnshuffle(2), IMAGE),
        ("ChannelShuffle", lambda: nn.ChannelShuffle(2), IMAGE),
        ("Upsample-nearest", lambda: nn.Upsample(scale_factor=2), IMAGE),
        ("Upsample-linear", lambda: nn.Upsample(scale_factor=2, mode="linear"), SIGNAL),
        ("Upsample-bilinear", lambda: nn.Upsample(size=(9, 4), mode="bilinear"), IMAGE),
        ("Upsample-bicubic", lambda: nn.Upsample(scale_factor=1.5, mode="bicubic"), IMAGE),
        ("Upsample-trilinear", lambda: nn.Upsample(scale_factor=2, mode="trilinear"), VOLUME),
        ("Unflatten", lambda: nn.Unflatten(1, (2, 3)), ROW),
        ("Identity", nn.Identity, ROW),
    ):
        yield layer(name, make, shape)

    def smaller(self, x):
        return nn.functional.interpolate(x, size=(4, 3), mode="bicubic", antialias=True)

    yield layer("interpolate-antialias", lambda: Of(smaller), IMAGE)

    def sampled(self, x):
        grid = torch.tanh(x[:, :2].permute(0, 2, 3, 1))
        return nn.functional.grid_sample(x[:, 2:], grid, align_corners=False)

    yield layer("grid_sample", lambda: Of(sampled), IMAGE)

    def uninitialized():
        return nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(CLASSES))

    # Its first pass draws the weights.
    more = {"draws": True, "writes": frozenset({"*"})}
    yield Case("lazy-uninitialized", uninitialized, ROW, expected=EITHER, **more)


def dropouts() -> Iterator[Case]:
    for name in ("Dropout", "AlphaDropout", "FeatureAlphaDropout"):
        yield layer(name, getattr(nn, name), ROW)
    yield layer("Dropout1d", nn.Dropout1d, SIGNAL)
    yield layer("Dropout2d", nn.Dropout2d, IMAGE)
    yield layer("Dropout3d", nn.Dropout3d, VOLUME)
    yield layer("StochasticDepth", lambda: torchvision.ops.StochasticDepth(0.5, "row"), IMAGE)
    yield layer("DropBlock2d", lambda: torchvision.ops.DropBlock2d(0.5, 3), IMAGE)


def sequences() -> Iterator[Case]:
    for name in ("RNN", "LSTM", "GRU"):
        for two in (False, True):

            def make(name=name, two=two):
                part = getattr(nn, name)(6, 4, num_layers=2, batch_first=True, bidirectional=two)
                return nn.Sequential(part, First())

            yield layer(name + "-bidirectional" * two, make, WORDS)
    yield layer("RNNCell", lambda: nn.RNNCell(6, 4), ROW)
    yield layer("GRUCell", lambda: nn.GRUCell(6, 4), ROW)
    yield layer("LSTMCell", lambda: nn.Sequential(nn.LSTMCell(6, 4), First()), ROW)
    yield layer(
        "LSTM-projected",
        lambda: nn.Sequential(nn.LSTM(6, 4, proj_size=2, batch_first=True), First()),
        WORDS,
    )

    def attending(self, x):
        return self.attention(x, x, x, need_weights=self.weights)[0]

    for weights in (False, True):

        def make(weights=weights):
            part = nn.MultiheadAttention(6, 2, batch_first=True)
            return Of(attending, attention=part, weights=weights)

        yield layer("MultiheadAttention" + "-weights" * weights, make, WORDS)

    def causal(self, x):
        q, k, v = (x.unflatten(2, (2, 3)).transpose(1, 2) * c for c in (1.0, 2.0, 3.0))
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    yield layer("scaled_dot_product_attention", lambda: Of(causal), WORDS)
    for norm_first in (False, True):
        for name in ("relu", "gelu"):

            def make(norm_first=norm_first, name=name):
                return nn.TransformerEncoderLayer(
                    6, 2, 8, activation=name, batch_first=True, norm_first=norm_first
                )

            yield layer(f"TransformerEncoderLayer-{name}" + "-first" * norm_first, make, WORDS)

    def encoder():
        part = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        return nn.TransformerEncoder(part, 2)

    yield layer("TransformerEncoder", encoder, WORDS)

    def decoding(self, x):
        return self.decoder(x, x.flip(1))

    yield layer(
        "TransformerDecoderLayer",
        lambda: Of(decoding, decoder=nn.TransformerDecoderLayer(6, 2, 8, batch_first=True)),
        WORDS,
    )
    yield layer(
        "Transformer",
        lambda: Of(
            lambda self, x: self.whole(x, x.flip(2)),
            whole=nn.Transformer(6, 2, 1, 1, 8, batch_first=True),
        ),
        WORDS,
    )


def others() -> Iterator[Case]:
    yield layer("Bilinear", lambda: Of(lambda s, x: s.b(x, x.tanh()), b=nn.Bilinear(6, 6, 4)), ROW)
    yield layer(
        "CosineSimilarity",
        lambda: Of(
            lambda s, x: s.c(x[:, :, None], x.tanh()[:, None, :].flip(2)), c=nn.CosineSimilarity(2)
        ),
        ROW,
    )
    yield layer(
        "PairwiseDistance",
        lambda: Of(
            lambda s, x: s.c(x.unflatten(1, (3, 2)), x.unflatten(1, (3, 2)).roll(1, 1)),
            c=nn.PairwiseDistance(),
        ),
        ROW,
    )
    yield layer(
        "cdist",
        lambda: Of(lambda s, x: torch.cdist(x, s.p), p=nn.Parameter(torch.randn(5, 6))),
        WORDS,
    )

    def embedded(self, x):
        places = (x.detach() * 4).abs().long().clamp(max=9)
        return self.table(places) * x[..., None]

    yield layer("Embedding", lambda: Of(embedded, table=nn.Embedding(10, 3)), ROW)

    def bagged(self, x):
        places = torch.arange(6).expand(len(x), 6)
        return self.table(places, per_sample_weights=x.tanh())

    yield layer(
        "EmbeddingBag",
        lambda: Of(bagged, table=nn.EmbeddingBag(10, 4, mode="sum")),
        ROW,
        twice=False,
    )

    def nested():
        return nn.Linear(6, 6)

    wrapped = {
        "weight_norm": lambda: parametrizations.weight_norm(nested()),
        "spectral_norm": lambda: parametrizations.spectral_norm(nested()),
        "orthogonal": lambda: parametrizations.orthogonal(nested()),
        "pruned": lambda: prune.l1_unstructured(nested(), "weight", 0.5),
    }
    for name, make in wrapped.items():
        more = {"writes": frozenset({"weight"})} if name == "pruned" else {}
        yield layer(
            name, lambda make=make: nn.Sequential(nn.Tanh(), make(), nn.Tanh()), ROW, **more
        )

    class Symmetric(nn.Module):
        def forward(self, weight):
            return weight.triu() + weight.triu(1).mT

    def symmetric():
        part = nested()
        parametrize.register_parametrization(part, "weight", Symmetric())
        return nn.Sequential(nn.Tanh(), part, nn.Tanh())

    yield layer("parametrized", symmetric, ROW)
    for name in ("weight_norm", "spectral_norm"):  # by a hook that sets the weight before each pass

        def hooked(name=name):
            return nn.Sequential(getattr(nn.utils, name)(nested()), nn.Tanh())

        yield layer(f"old-{name}", hooked, ROW, writes=frozenset({"weight"}))


def vision() -> Iterator[Case]:
    ops = torchvision.ops

    def boxes(x):
        corners = torch.tensor([[0.3, 0.2, 4.1, 4.7], [1.1, 0.4, 5.2, 3.9]], dtype=x.dtype)
        return [corners for _ in x]

    def pooled(operation, size):
        return lambda self, x: operation(x, boxes(x), size).unflatten(0, (len(x), 2))

    yield layer("roi_align", lambda: Of(pooled(ops.roi_align, 2)), IMAGE, twice=False)
    yield layer("roi_pool", lambda: Of(pooled(ops.roi_pool, 2)), IMAGE, twice=False)
    yield layer("ps_roi_align", lambda: Of(pooled(ops.ps_roi_align, 2)), IMAGE, twice=False)
    yield layer("ps_roi_pool", lambda: Of(pooled(ops.ps_roi_pool, 2)), IMAGE, twice=False)

    def deformed(self, x):
        return self.deform(x, self.offsets(x))

    def deform():
        return Of(deformed, deform=ops.DeformConv2d(4, 3, 3), offsets=nn.Conv2d(4, 18, 3))

    yield layer("deform_conv2d", deform, IMAGE, twice=False, finite_only=True)
    yield layer("SqueezeExcitation", lambda: ops.SqueezeExcitation(4, 2), IMAGE)
    yield layer("Conv2dNormActivation", lambda: ops.Conv2dNormActivation(4, 4), IMAGE)


PARTS = (activations, norms, pooling, shapes, dropouts, sequences, others, vision)


def layers() -> list[Case]:
    """Every case of this file."""
    return [case for part in PARTS for case in part()]
