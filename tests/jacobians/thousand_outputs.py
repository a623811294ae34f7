"""Norms of networks with 1,000 outputs at 224 x 224, and a check against dense Jacobians.

The weights are random and fixed by a seed. Each norm is computed in a process of its own: kind,
time and memory are those of one norm. The Jacobian of 1,000 outputs has 600 MB an image and is not
formed; so the check is of a head of 16 outputs, whose Jacobian is formed row by row by torch alone
and whose norms are NumPy's: by the algorithms for many outputs, and by those for few.

    python tests/jacobians/thousand_outputs.py --images 2 --model torchvision:resnet18
"""

import argparse
import itertools
import math
import multiprocessing
import platform
import resource
import time

import numpy as np
import torch
import torchvision
from torch import nn

import onr
from onr.jacobians import operator_norms

MODELS = (
    "torchvision:mobilenet_v3_small",
    "torchvision:resnet18",
    "timm:deit_tiny_patch16_224",
    "torchvision:vit_b_16",
)
PAIRS = ((2, 2), (1, 2), (2, math.inf), (math.inf, 1))
CHECKED = 16
TOLERANCE = 1e-4
"""The largest relative error that counts as rounding: everything is computed in float32."""


def built(name, seed=0):
    """The model with random weights; a head that starts at zero gets weights as well."""
    torch.manual_seed(seed)
    library, _, member = name.partition(":")
    if library == "torchvision":
        model = torchvision.models.get_model(member)
    else:
        import timm

        model = timm.create_model(member)
    for part in model.modules():
        if isinstance(part, nn.Linear) and not part.weight.any():
            nn.init.normal_(part.weight, std=part.in_features**-0.5)
    return model.eval()


def images(count, seed=0, size=224):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((count, 3, size, size), dtype=np.float32))


class Head(nn.Module):
    """The first outputs of a model."""

    def __init__(self, model, outputs=CHECKED):
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, x):
        return self.model(x)[:, : self.outputs]


def rows(model, x):
    """``J`` by torch alone, one backward pass an output: ``(batch, d, n)``."""
    z = x.clone().requires_grad_(True)
    logits = model(z)
    found = [
        torch.autograd.grad(logits[:, k].sum(), z, retain_graph=True)[0]
        for k in range(logits.shape[1])
    ]
    return torch.stack(found, 1).flatten(2).numpy().astype(np.float64)


def dense(J, p, q):
    """The norms of matrices by NumPy alone; for (inf, 1) all signs of the outputs are tried."""
    if (p, q) == (2, 2):
        return np.linalg.svd(J, compute_uv=False)[:, 0]
    if (p, q) == (1, 2):
        return np.sqrt((J**2).sum(1)).max(1)
    if (p, q) == (2, math.inf):
        return np.sqrt((J**2).sum(2)).max(1)
    best = np.zeros(len(J))
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=J.shape[1] - 1)))
    signs = np.concatenate([np.ones((len(signs), 1)), signs], 1)
    for columns in np.array_split(signs, max(1, len(signs) // 64)):
        best = np.maximum(best, np.abs(columns @ J).sum(2).max(1))
    return best


def compare(model, x, pairs=PAIRS):
    """For each pair: the pair, the norm of many outputs' code, of few outputs' code, NumPy's."""
    J = rows(model, x)
    for p, q in pairs:
        few = onr.operator_norm(model, x, p=p, q=q)
        whole, operator_norms.WHOLE = operator_norms.WHOLE, 1
        try:
            many = onr.operator_norm(model, x, p=p, q=q)
        finally:
            operator_norms.WHOLE = whole
        yield (p, q), many, few, dense(J, p, q)


def faults(pair, found, exact):
    """What is wrong with a result: an exact one that differs, or a lower bound that is above."""
    error = found.lower.numpy().astype(np.float64) / exact - 1
    wrong = np.abs(error) if found.kind == "exact" else error
    return [
        f"(p, q) = {pair}, {found.kind}, image {k}: {error[k]:+.1e} relative to NumPy's"
        for k in np.flatnonzero(wrong > TOLERANCE)
    ]


def _measured(name, count, p, q, device, out):
    torch.set_num_threads(1)
    model, x = built(name).to(device), images(count).to(device)
    on_gpu = x.is_cuda
    start = time.perf_counter()
    found = onr.operator_norm(model, x, p=p, q=q)
    values = found.lower.tolist()
    out.put(
        {
            "kind": found.kind,
            "how": found.how,
            "values": values,
            "seconds": time.perf_counter() - start,
            "memory": torch.cuda.max_memory_allocated() / 2**30
            if on_gpu
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
    )


def measured(name, count, p, q, device):
    """Kind, value, seconds and peak memory in GiB of a norm, in a process of its own.

    The memory is that of the process, or on a GPU that of its tensors.
    """
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    child = context.Process(target=_measured, args=(name, count, p, q, device, out))
    child.start()
    found = out.get()
    child.join()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--check-only", action="store_true", help="only the heads of 16 outputs")
    parser.add_argument("--device", default="cpu", help="where 1,000 outputs are measured")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.platform()}, Python {platform.python_version()}, torch {torch.__version__}")
    wrong = []
    for name in chosen.model or MODELS:
        for pair, many, few, exact in compare(Head(built(name)), images(chosen.images)):
            wrong += faults(pair, many, exact) + faults(pair, few, exact)
            shares = [float((found.lower.numpy() / exact).min()) for found in (many, few)]
            print(
                f"{name}, {CHECKED} outputs, (p, q) = {pair}: of NumPy's norm "
                f"{shares[0]:.6f} ({many.kind}), {shares[1]:.6f} ({few.kind})",
                flush=True,
            )
        for p, q in () if chosen.check_only else PAIRS:
            row = measured(name, chosen.images, p, q, chosen.device)
            values = ", ".join(f"{value:.4g}" for value in row["values"])
            print(
                f"{name}, 1,000 outputs, (p, q) = {(p, q)}: {row['kind']} ({row['how']}) "
                f"{values}; {row['seconds']:.0f} s, {row['memory']:.2f} GiB",
                flush=True,
            )
    print("\n".join(wrong) or "no norm differs from NumPy's")
    return len(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
