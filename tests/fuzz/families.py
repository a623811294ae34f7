"""How right the derivatives of whole architectures are: the table of ``docs/derivatives.md``.

``python -m fuzz.families`` measures one small member of each family of torchvision's classifiers
and ten of timm, and writes the table. What has been measured is kept in a file, so that a run that
was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from onr.errors import OnrError
from onr_torch.linearization import linearize
from onr_torch.trainable_jvp import trainable_jvp

PAGE = Path(__file__).parents[2] / "docs" / "derivatives.md"
BEGIN, END = "<!-- begin table -->", "<!-- end table -->"
SEED, BATCH, CLASSES, IMAGES = 0, 2, 5, 64
CPU_SECONDS, MEMORY = 180, 10 * 2**30
BARS = {"differences": 1e-6, "adjoint": 1e-10, "gradient": 1e-6}
"""The largest errors that count as right."""

Measured = dict[str, Any]


def maxvit() -> nn.Module:
    """``maxvit_t`` with windows of 2 x 2 in place of 7 x 7, which need images of 224 x 224."""
    return torchvision.models.MaxVit(
        input_size=(64, 64),
        stem_channels=64,
        partition_size=2,
        block_channels=[64, 128, 256, 512],
        block_layers=[2, 2, 5, 2],
        head_dim=32,
        stochastic_depth_prob=0.2,
        num_classes=CLASSES,
    )


TORCHVISION: dict[str, tuple[int, dict[str, Any]]] = {
    "alexnet": (64, {}),
    "convnext_tiny": (32, {}),
    "densenet121": (32, {}),
    "efficientnet_b0": (32, {}),
    "efficientnet_v2_s": (32, {}),
    "googlenet": (32, {"aux_logits": False, "init_weights": False}),
    "inception_v3": (75, {"aux_logits": False, "init_weights": False}),
    "maxvit_t": (64, {}),
    "mnasnet0_5": (32, {}),
    "mobilenet_v2": (32, {}),
    "mobilenet_v3_small": (32, {}),
    "regnet_y_400mf": (32, {}),
    "resnet18": (32, {}),
    "shufflenet_v2_x0_5": (32, {}),
    "squeezenet1_1": (32, {}),
    "swin_t": (32, {}),
    "swin_v2_t": (32, {}),
    "vgg11": (32, {}),
    "vit_b_16": (32, {"image_size": 32}),
}
TIMM: dict[str, tuple[int, dict[str, Any]]] = {
    "convnextv2_atto": (32, {}),
    "eca_nfnet_l0": (32, {}),
    "edgenext_xx_small": (64, {}),
    "ghostnet_050": (32, {}),
    "levit_128s": (64, {"img_size": 64}),
    "mixer_s32_224": (64, {"img_size": 64}),
    "mobilevit_xxs": (64, {}),
    "poolformer_s12": (32, {}),
    "vit_tiny_patch16_224": (32, {"img_size": 32}),
    "xcit_nano_12_p16_224": (32, {"img_size": 32}),
}
MODELS = {f"torchvision:{n}": given for n, given in TORCHVISION.items()} | {
    f"timm:{n}": given for n, given in TIMM.items()
}


def built(name: str) -> nn.Module:
    """The model with random weights, in evaluation mode and float64."""
    library, _, member = name.partition(":")
    size, options = MODELS[name]
    torch.manual_seed(SEED)
    if member == "maxvit_t":
        module = maxvit()
    elif library == "torchvision":
        module = torchvision.models.get_model(member, num_classes=CLASSES, **options)
    else:
        import timm

        module = timm.create_model(member, num_classes=CLASSES, **options)
    return used(module.double(), size)


def used(module: nn.Module, size: int) -> nn.Module:
    """The module as after training: no part is switched off, and the statistics are of images.

    Parameters that all start at one value (scales, biases, and branches that start at zero) get
    noise; batch normalisations get the statistics of random images.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() > 1 and parameter.max() == parameter.min():
                parameter.add_(0.1 * torch.randn_like(parameter))
        norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over the passes: here, of one
        if norms:
            module.train()
            module(torch.rand(IMAGES, 3, size, size, dtype=torch.float64))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return module.eval()


def measure(module: nn.Module, size: int) -> Measured:
    """The errors of ``J v``, ``J^T u`` and the gradient of ``J v``, and times in forward passes."""
    torch.manual_seed(SEED + 1)
    x = torch.rand(BATCH, 3, size, size, dtype=torch.float64)
    v, u = torch.randn_like(x), torch.randn(BATCH, CLASSES, dtype=x.dtype)
    try:
        found = products(module, x, v, u)
    except OnrError as error:
        return {"refused": str(error)}
    try:
        found["gradient"] = gradient_error(module, x, v, u)
    except OnrError as error:
        found["gradient refused"] = str(error)
    return found


def products(module: nn.Module, x: torch.Tensor, v: torch.Tensor, u: torch.Tensor) -> Measured:
    """How ``J v`` was computed, its errors, and the times of the products."""
    here = linearize(module, x)
    image, back = here.jvp(v), here.vjp(u)

    def ahead(step: float) -> torch.Tensor:
        with torch.no_grad():
            return module(x + step * v)

    slopes = [(ahead(h) - ahead(-h)) / (2 * h) for h in steps(3, 8)]
    gap = (u * image).sum() - (back * v).sum()
    return {
        "way": here.way,
        "differences": min(float((slope - image).norm() / image.norm()) for slope in slopes),
        "adjoint": float(gap.abs() / (u.norm() * image.norm())),
        **times({"jvp": lambda: here.jvp(v), "vjp": lambda: here.vjp(u)}, lambda: ahead(0.0)),
    }


def steps(first: int, last: int) -> list[float]:
    """The powers of ten ``10^-first`` to ``10^-last``."""
    return [10.0**-k for k in range(first, last + 1)]


def gradient_error(module: nn.Module, x: torch.Tensor, v: torch.Tensor, w: torch.Tensor) -> float:
    """The error of the gradient of ``<w, J v>`` along one random change of the parameters.

    It is held against central differences of ``<J^T w, v>``, whose values need one backward pass.
    Of several steps the one of best agreement counts: long steps bend and cross kinks of ReLUs,
    short ones round. The error is relative to the root of the sum of the squared terms
    ``gradient * change``, the typical size of their sum. The module is changed.
    """
    (trainable_jvp(module, x, v) * w).sum().backward()
    trained = [p.requires_grad_(False) for p in module.parameters() if p.requires_grad]
    rng = torch.Generator().manual_seed(SEED + 2)
    changes = [p.abs().mean() * torch.randn(p.shape, generator=rng, dtype=p.dtype) for p in trained]
    terms = [p.grad * d for p, d in zip(trained, changes, strict=True) if p.grad is not None]
    slope = sum(float(term.sum()) for term in terms)
    size = sum(float(term.square().sum()) for term in terms) ** 0.5
    del terms
    for parameter in trained:
        parameter.grad = None
    place = 0.0

    def product(step: float) -> float:
        nonlocal place
        for parameter, d in zip(trained, changes, strict=True):
            parameter.add_(d, alpha=step - place)
        place = step
        module.train().eval()  # clears what is kept of the parameters in evaluation mode
        at = x.clone().requires_grad_(True)
        (back,) = torch.autograd.grad(module(at.clone()), at, w)
        return float((back * v).sum())

    return min(abs((product(h) - product(-h)) / (2 * h) - slope) / size for h in steps(3, 9))


def times(
    verbs: dict[str, Callable[[], Any]], forward: Callable[[], Any], turns: int = 5
) -> dict[str, float]:
    """The time of each verb over that of a forward pass: the median over turns."""
    ratios: dict[str, list[float]] = {name: [] for name in verbs}

    def seconds(act: Callable[[], Any]) -> float:
        start = time.perf_counter()
        act()
        return time.perf_counter() - start

    for _ in range(turns):
        unit = seconds(forward)
        for name, act in verbs.items():
            ratios[name].append(seconds(act) / unit)
    return {f"{name} time": statistics.median(found) for name, found in ratios.items()}


def _child(name: str, out: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    start = time.process_time()
    try:
        found = measure(built(name), MODELS[name][0])
    except Exception as error:
        found = {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
    found["seconds"] = time.process_time() - start
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    out.send(found)


def measured_apart(name: str) -> Measured:
    """The numbers of a model, in a process of its own with a limit of time and memory."""
    context = multiprocessing.get_context("fork")
    into, out = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(name, out))
    child.start()
    out.close()
    try:
        return into.recv()
    except EOFError:
        return {"failed": f"it took more than {CPU_SECONDS} s or {MEMORY >> 30} GiB"}
    finally:
        child.join()


def table(found: dict[str, Measured]) -> str:
    """The table in Markdown; a number that misses its bar is bold."""
    lines = [
        "| model | image | `J v` by | `J v` | adjoint | gradient | jvp | vjp |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in MODELS:
        if name not in found:
            continue
        row = found[name]
        told = row.get("refused") or row.get("failed")
        size = MODELS[name][0]
        first = f"| {name} | {size} x {size} |"
        if told:
            lines.append(f"{first} refused: {told} | | | | | |")
            continue
        cells = [row["way"], *(cell(row, bar) for bar in BARS)]
        cells += [f"{row[f'{verb} time']:.1f}" for verb in ("jvp", "vjp")]
        lines.append(f"{first} {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: Measured, bar: str) -> str:
    """One error."""
    if bar not in row:
        return f"refused: {row[f'{bar} refused']}"
    told = f"{row[bar]:.0e}"
    return told if row[bar] <= BARS[bar] else f"**{told}**"


def versions() -> str:
    """The versions of what was used."""
    import timm

    return (
        f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}, "
        f"torchvision {torchvision.__version__.partition('+')[0]}, timm {timm.__version__}; "
        f"{platform.machine()}, one thread"
    )


def write(found: dict[str, Measured]) -> None:
    """Put the table into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n\n{versions()}.\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz.families", description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=Path("build/derivatives.json"), help="what is kept"
    )
    parser.add_argument("--model", action="append", help="only these, measured anew")
    chosen = parser.parse_args()
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found: dict[str, Measured] = {}
    if chosen.results.exists():
        found = json.loads(chosen.results.read_text())
    for name in chosen.model or [name for name in MODELS if name not in found]:
        found[name] = measured_apart(name)
        chosen.results.write_text(json.dumps(found, indent=1))
        print(name, found[name], flush=True)
    write(found)
    return int(
        any(not row.get(bar, 0.0) <= limit for row in found.values() for bar, limit in BARS.items())
    )


if __name__ == "__main__":
    sys.exit(main())
