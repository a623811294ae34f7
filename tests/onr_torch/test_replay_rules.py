"""Rules of the replay that are our own: equal to torch's derivative, and adjoint to its vjp."""

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import onr
from onr.errors import OnrError
from onr_torch.linearization import TorchLinearization, jvp
from onr_torch.network import TorchNetwork

F64 = torch.float64
some = settings(max_examples=20, deadline=None)
sizes, seeds = st.integers(1, 4), st.integers(0, 2**31)


class Of(nn.Module):
    """A function of the input and of parts; all that it gives is one row of logits an example."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        found = self.function(x, *self.parts)
        if isinstance(found, tuple):
            found = torch.cat([(k + 1) * y.flatten(1) for k, y in enumerate(found)], 1)
        return found.flatten(1)


def drawn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def check(function, x, *parts, seed=0):
    """The derivative is that of torch's forward mode, and no check at run time is needed."""
    module = Of(function, *parts).to(F64).eval()
    v = drawn(*x.shape, seed=[seed, 1])
    at = TorchLinearization(module, x)
    assert at.way == "replay", at._reasons
    assert at.recorder.unproven == []
    image = at.jvp(v)
    assert at.way == "replay", at._reasons
    u = drawn(*image.shape, seed=[seed, 2])
    terms = torch.cat([(u * image).flatten(), -(at.vjp(u) * v).flatten()])
    assert abs(terms.sum()) <= 1e-10 * (1 + terms.abs().sum())
    assert torch.equal(at.jvp(v), image), "what is kept at the first direction serves the next"
    with torch.no_grad():
        expected = jvp(module, x, v)
    torch.testing.assert_close(
        image, expected, rtol=1e-10, atol=1e-10 * (1 + float(image.abs().max()))
    )


def optional(present, *shape, seed):
    return drawn(*shape, seed=seed) if present else None


@given(
    axes=st.lists(sizes, min_size=1, max_size=3),
    rest=st.lists(sizes, max_size=2),
    weight=st.booleans(),
    bias=st.booleans(),
    eps=st.sampled_from([1e-5, 0.1]),
    turned=st.booleans(),
    seed=seeds,
)
@some
def test_layer_norm(axes, rest, weight, bias, eps, turned, seed):
    weight, bias = optional(weight, *axes, seed=seed), optional(bias, *axes, seed=[seed, 5])
    x = drawn(2, *axes, *rest, seed=[seed, 0]) if turned else drawn(2, *rest, *axes, seed=[seed, 0])

    def function(z):
        z = z.movedim(tuple(range(1, 1 + len(axes))), tuple(range(-len(axes), 0))) if turned else z
        return functional.layer_norm(z, axes, weight, bias, eps)

    check(function, x, seed=seed)


@given(
    groups=sizes,
    width=sizes,
    rest=st.lists(sizes, min_size=1, max_size=3),
    affine=st.booleans(),
    kind=st.sampled_from(["group", "instance"]),
    seed=seeds,
)
@some
def test_group_and_instance_norm(groups, width, rest, affine, kind, seed):
    channels = groups * width
    weight = optional(affine, channels, seed=seed)
    bias = optional(affine, channels, seed=[seed, 5])
    x = drawn(2, channels, *rest, seed=[seed, 0])
    if kind == "group":
        check(lambda z: functional.group_norm(z, groups, weight, bias), x, seed=seed)
    elif np.prod(rest) > 1:  # of one number torch refuses the statistics
        check(lambda z: functional.instance_norm(z, weight=weight, bias=bias), x, seed=seed)


@given(
    shape=st.lists(sizes, min_size=1, max_size=3),
    weight=st.booleans(),
    dim=st.integers(-1, 1),
    eps=st.sampled_from([None, 0.3]),
    seed=seeds,
)
@some
def test_norms_of_vectors(shape, weight, dim, eps, seed):
    x, weight = drawn(2, *shape, seed=[seed, 0]), optional(weight, shape[-1], seed=seed)
    check(lambda z: functional.rms_norm(z, shape[-1:], weight, eps), x, seed=seed)
    check(lambda z: functional.normalize(z, dim=dim, eps=eps or 1e-12), x, seed=seed)


@given(
    shape=st.lists(sizes, min_size=1, max_size=3),
    dim=st.integers(-1, 1),
    hidden=st.booleans(),
    seed=seeds,
)
@some
def test_softmax(shape, dim, hidden, seed):
    x = drawn(2, *shape, seed=[seed, 0])
    mask = torch.zeros(x.shape, dtype=F64)
    if hidden and x.shape[dim] > 1:
        mask.select(dim, 0).fill_(-np.inf)
    check(lambda z: (z + mask).softmax(dim), x, seed=seed)
    if not hidden:
        check(lambda z: torch.log_softmax(z, dim), x, seed=seed)
        check(lambda z: functional.log_softmax(z, dim=dim, dtype=F64), x, seed=seed)


MASKS = ("none", "bool", "float", "infinite", "rows", "causal")


@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 2),
    copies=st.integers(1, 2),
    lengths=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    widths=st.tuples(sizes, sizes),
    kind=st.sampled_from(MASKS),
    scale=st.sampled_from([None, 0.7]),
    depends=st.sets(st.sampled_from("qkv"), min_size=1),
    seed=seeds,
)
@settings(max_examples=40, deadline=None)
def test_attention(batch, heads, copies, lengths, widths, kind, scale, depends, seed):
    (rows, columns), (width, depth) = lengths, widths
    shapes = {
        "q": (batch, heads * copies, rows, width),
        "k": (batch, heads, columns, width),
        "v": (batch, heads, columns, depth),
    }
    mask = None
    if kind not in ("none", "causal"):
        mask = drawn(rows, columns, seed=[seed, 3])
        hidden = mask > 0.4
        if kind == "rows":
            hidden[0] = True  # torch gives zero there
        else:
            hidden[:, 0] = False
        if kind == "infinite":
            mask = mask.masked_fill(hidden, -np.inf)
        elif kind != "float":
            mask = ~hidden

    total = sum(int(np.prod(shapes[name][1:])) for name in "qkv")
    constants = {name: drawn(*shape, seed=[seed, 7]) for name, shape in shapes.items()}

    def function(z):
        parts = z.split([int(np.prod(shapes[name][1:])) for name in "qkv"], 1)
        given = {
            name: part.view(shapes[name]) if name in depends else constants[name]
            for name, part in zip("qkv", parts, strict=True)
        }
        return functional.scaled_dot_product_attention(
            given["q"],
            given["k"],
            value=given["v"],
            attn_mask=mask,
            is_causal=kind == "causal",
            scale=scale,
            enable_gqa=copies > 1,
        )

    check(function, drawn(batch, total, seed=[seed, 0]), seed=seed)


@given(
    heads=st.integers(1, 3),
    width=st.integers(1, 3),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    own=st.booleans(),
    batch_first=st.booleans(),
    need_weights=st.booleans(),
    average=st.booleans(),
    bias=st.booleans(),
    more=st.sampled_from(["nothing", "bias", "zero", "widths"]),
    kind=st.sampled_from(["none", "bool", "float", "padding", "both"]),
    seed=seeds,
)
@settings(max_examples=30, deadline=None)
def test_multi_head_attention(
    heads, width, rows, columns, own, batch_first, need_weights, average, bias, more, kind, seed
):
    columns = rows if own else columns
    inner, outer = heads * width, heads * width if own else 5
    widths = {"kdim": outer, "vdim": outer} if more == "widths" or outer != inner else {}
    layer = nn.MultiheadAttention(
        inner,
        heads,
        bias=bias,
        add_bias_kv=more == "bias",
        add_zero_attn=more == "zero",
        batch_first=batch_first,
        **widths,
    )
    for k, parameter in enumerate(layer.parameters()):
        parameter.data = drawn(*parameter.shape, seed=[seed, 10 + k])
    hidden = drawn(rows, columns, seed=[seed, 3]) > 0.5
    hidden[:, 0] = False
    options = {"need_weights": need_weights, "average_attn_weights": average}
    if kind in ("bool", "both"):
        options["attn_mask"] = hidden
    elif kind == "float":
        options["attn_mask"] = drawn(rows, columns, seed=[seed, 4])
    if kind in ("padding", "both"):
        options["key_padding_mask"] = hidden[:1].expand(2, columns)
    other = drawn(2, columns, outer, seed=[seed, 5])

    def function(z, layer):
        query = z.view(2, rows, inner)
        key = query if own else other * z.mean()
        if not batch_first:
            query, key = query.transpose(0, 1), key.transpose(0, 1)
            key = query if own else key
        image, weights = layer(query, key, key, **options)
        image = image if batch_first else image.transpose(0, 1)
        return (image, weights) if need_weights else image

    check(function, drawn(2, rows * inner, seed=[seed, 0]), layer, seed=seed)


PRODUCTS = {
    "mul": lambda z: z * (z + 1),
    "mul by channel": lambda z: z * z.mean(1, keepdim=True),
    "mul in place": lambda z: (z + 1).mul_(z),
    "multiply": lambda z: torch.multiply(z, z),
    "matmul": lambda z: z @ z.mT @ z,
    "bmm": lambda z: torch.bmm(z, z.mT),
    "einsum": lambda z: torch.einsum("bij,bkj->bik", z, z.softmax(1)),
    "einsum of three": lambda z: torch.einsum("bij,bkj,bkl->bil", [z, z, z]),
    "div": lambda z: z / (2 + z * z) / z.mean(1, keepdim=True),
    "div of a number": lambda z: torch.div(torch.ones(3, 4, dtype=F64), 2 + z * z),
    "baddbmm": lambda z: torch.baddbmm(z, z[:, :, :3], z, beta=0.5, alpha=3),
    "baddbmm to a constant": lambda z: torch.baddbmm(drawn(3, 4), z[:, :, :3], z),
    "addcmul of squares": lambda z: torch.addcmul(z[:, :, :3], z[:, :, :3], z[:, :, 1:]),
    "addcmul to a constant": lambda z: torch.addcmul(drawn(4), z, z.mean(1, keepdim=True)),
    "addmm": lambda z: torch.addmm(z[0], z[0, :, :3], z[1], beta=0)[None].expand(2, 3, 4),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name):
    check(PRODUCTS[name], drawn(2, 3, 4))


def test_a_row_of_which_all_is_masked_is_nan_in_a_softmax_and_named():
    mask = torch.zeros(3, 3)
    mask[1] = -np.inf
    model = Of(lambda z: (z[:, :, None] * z[:, None] + mask).softmax(-1))
    with pytest.raises(OnrError, match=r"(?i)nan"):
        onr.linearize(model, torch.rand(2, 3))


@pytest.mark.parametrize("name", ["swin", "vit"])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_transformers(name, bfloat16):
    """No operation is left to torch's forward mode: not the masks of shifted windows either."""
    torch.manual_seed(0)
    if name == "swin":
        module = torchvision.models.SwinTransformer([2, 2], 8, [2, 2], [1, 2], [2, 2], 2.0)
    else:
        module = torchvision.models.VisionTransformer(8, 4, 2, 2, 8, 16)
        nn.init.normal_(module.heads[0].weight)
    x = torch.rand(2, 3, 8, 8)
    module, x = (module, x) if bfloat16 else (module.to(F64), x.to(F64))
    at = TorchNetwork(module.eval(), (3, 8, 8), bfloat16=bfloat16).linearize(x)
    v = torch.randn_like(x)
    image = at.jvp(v)
    assert at.way == "replay"
    assert at.recorder.unproven == []
    with torch.no_grad():
        expected = jvp(module, x, v)
    scale = float(expected.abs().max())
    torch.testing.assert_close(image, expected, rtol=0, atol=(0.1 if bfloat16 else 1e-10) * scale)
