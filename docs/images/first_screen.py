r"""The picture of the README's first screen: an attack becomes the maximiser of the operator norm.

    python docs/images/first_screen.py RUN

RUN is a run on CIFAR-10. The one in the picture:

    onr train --dataset stored:cifar10 --data-dir "$ONR_DATA_DIR" --train-images 5000 --seed 0 \
        --augment crop-flip --model cnn7 --model-option width=16 --epochs 6 --lr 0.01 \
        --method at --p 2 --eps 0.5 --steps 4

The curves are those of docs/results/tables/fig3.csv: accuracy on 1,000 test images, CNN7 of width
16, the mean of seeds 0, 1 and 2.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

import onr
from onr.jacobians.iterations import projected_gradient_ascent

HERE = Path(__file__).parent
STEPS, SHOWN, EPS, IMAGES = 10, (0, 1, 2, 10), 0.5, 50
INK = {"light": "#1f2328", "dark": "#e6edf3"}
COLOURS = {
    "light": {"standard": "#6e7781", "at": "#0969da", "dd-snr": "#bc4c00"},
    "dark": {"standard": "#8b949e", "at": "#58a6ff", "dd-snr": "#ffa657"},
}
NAMES = {
    "standard": "standard training",
    "at": "trained against attacks",
    "dd-snr": "trained against the norm",
}


def measured(run: str) -> tuple[list[np.ndarray], list[float], float]:
    """The pictures of an image that is classified correctly, |cos| of each, and the last's mean."""
    network = onr.open_run(run).network
    x, y = onr.open_run(run).batch(IMAGES)
    two = onr.norm(2)
    start = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    start = EPS * start / two(start)[:, None, None, None]
    deltas = [start]
    projected_gradient_ascent(
        network, x, start, loss=onr.LogitDistance(2), labels=y, p=two, eps=EPS, alpha=np.inf,
        steps=STEPS, trace=lambda step: deltas.append(step.delta),
    )  # fmt: skip
    v = onr.operator_norm(network, x, p=2, q=2).v
    cosines = [(delta * v).flatten(1).sum(1) / (two(delta) * two(v)) for delta in deltas]
    image = int(torch.nonzero(network(x).argmax(1) == y)[0])
    v = v * torch.sign(cosines[-1])[:, None, None, None]
    shown = [x[image], *(0.5 + _half(deltas[k][image]) for k in SHOWN), 0.5 + _half(v[image])]
    pictures = [each.permute(1, 2, 0).numpy() for each in shown]
    return (
        pictures,
        [float(cosines[k][image].abs()) for k in SHOWN],
        float(cosines[-1].abs().mean()),
    )


def _half(delta: torch.Tensor) -> torch.Tensor:
    return delta / (2 * delta.abs().max())


def curves() -> dict[str, tuple[list[float], list[float]]]:
    """Radii and accuracies in percent, the mean over the seeds."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (HERE.parent / "results/tables/fig3.csv").open() as file:
        for row in csv.DictReader(file):
            if row["network"] == "cnn7" and row["quantity"] == "accuracy":
                found[row["method"]][float(row["eps"])].append(100 * float(row["mean"]))
    return {
        method: (sorted(found[method]), [np.mean(found[method][e]) for e in sorted(found[method])])
        for method in NAMES
    }


def drawn(scheme: str, pictures: list[np.ndarray], cosines: list[float]) -> plt.Figure:
    """The figure for a light or a dark page."""
    ink = INK[scheme]
    plt.rcParams.update(
        {"font.size": 9.5, "svg.hashsalt": "onr", "svg.fonttype": "path", "axes.edgecolor": ink}
        | {f"{each}.color": ink for each in ("text", "xtick", "ytick")}
        | {"axes.labelcolor": ink, "axes.titlesize": 9.5}
    )
    figure = plt.figure(figsize=(8.6, 3.3))
    left, right = figure.subfigures(1, 2, width_ratios=[1.12, 1])
    for part in (figure, left, right):
        part.patch.set_alpha(0)
    tiles = left.subplots(2, 3)
    left.subplots_adjust(left=0.01, right=0.97, top=0.8, bottom=0.02, wspace=0.08, hspace=0.28)
    titles = ["image", *(f"step {k}, cos {c:.2f}" for k, c in zip(SHOWN, cosines, strict=True))]
    titles += ["steepest direction"]
    for axis, picture, title in zip(tiles.flat, pictures, titles, strict=True):
        axis.imshow(picture, interpolation="none")
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, pad=3)
    left.suptitle("An attack finds the network's steepest direction", x=0.49, y=0.98)
    axis = right.subplots()
    right.subplots_adjust(left=0.13, right=0.97, top=0.86, bottom=0.15)
    axis.patch.set_alpha(0)
    for method, (radii, accuracy) in curves().items():
        style = {"at": "-", "dd-snr": "--", "standard": "-"}[method]
        axis.plot(radii, accuracy, style, color=COLOURS[scheme][method], lw=2, label=NAMES[method])
    axis.set(xlabel="radius of the attack, l2", ylabel="accuracy, %", ylim=(0, 80), xlim=(0, 1.5))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="upper right")
    right.suptitle("Training against either is equally robust", x=0.55, y=0.98)
    return figure


def main() -> None:
    """Write both pictures."""
    pictures, cosines, mean = measured(sys.argv[1])
    print(f"|cos| after {STEPS} steps, mean of {IMAGES} images: {mean:.3f}; shown {cosines}")
    for scheme in INK:
        file = HERE / f"first-screen-{scheme}.svg"
        drawn(scheme, pictures, cosines).savefig(file, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
