"""CIFAR-10 and a narrow ResNet-18 in plain PyTorch: standard, with the term, with onr.attack.

    python cifar10_loop.py DATA RESULTS.json [METHOD ...]

DATA is a folder with cifar10-train.npz and cifar10-test.npz. Methods that RESULTS.json has are
skipped; those whose name begins with "onr train" are the same by ``onr.train``. AUTOCAST=1 turns on
autocast in bfloat16.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import onr
import onr_torch

EPS, ALPHA, STEPS = "4/255", "2/255", 3
IMAGES, EPOCHS, BATCH, TESTED = 2560, 5, 128, 500
AUTOCAST = os.environ.get("AUTOCAST") == "1"


class Block(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width), nn.BatchNorm2d(width)])
        self.shortcut = nn.Identity()
        if stride > 1:
            shortcut = nn.Conv2d(before, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(width))

    def forward(self, x):
        hidden = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(hidden)) + self.shortcut(x))


def resnet18(width=8):
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    sizes = [(1, 1, 1), (1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 4, 2), (4, 4, 1), (4, 8, 2), (8, 8, 1)]
    blocks = [Block(width * before, width * after, stride) for before, after, stride in sizes]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10)]
    return nn.Sequential(stem, *blocks, *head)


def images(folder, part, count):
    with np.load(Path(folder) / f"cifar10-{part}.npz") as data:  # (N, 32, 32, 3), bytes
        x, y = data["images"][:count], data["labels"][:count]
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(
        y
    )  # channels last


# What a step pays beside the cross-entropy: lam, and the term.
TERMS = {
    "warm": (0.4, {"q": 2, "search": "warm", "examples": IMAGES}),
    "power": (0.4, {"q": 2, "search": "power", "steps": STEPS}),
    "exact": (0.1, {"q": 1, "search": "exact"}),
}


def train(method, x, y):
    """The trained model, and the processor time of a step, search and all."""
    torch.manual_seed(0)
    model = resnet18().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=EPOCHS * steps)
    lam, options = TERMS.get(method, (0.0, None))
    if options:
        reg = onr_torch.OperatorNormRegularizer(p="inf", eps=EPS, power=2, **options)
    seconds = []
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH)[:steps]:
            started = time.process_time()
            inputs, labels = x[batch], y[batch]
            if method == "attack":
                model.eval()
                attack = {"p": "inf", "eps": EPS, "steps": STEPS, "alpha": ALPHA}
                inputs = onr.attack(model, inputs, labels, **attack, rng=len(seconds))
                model.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
                if options:
                    logits, term = reg.together(model, inputs, index=batch)
                    loss = F.cross_entropy(logits, labels) + lam * term
                else:
                    loss = F.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            seconds.append(time.process_time() - started)
    return model, float(np.median(seconds))


# The same by ``onr.train``.
BALL = {"p": "inf", "eps": EPS}
RUNS = {
    "onr train standard": ("standard", {}),
    "onr train warm": ("dd-snr-warm", BALL | {"lam": "0.4"}),
    "onr train power": ("dd-onr", BALL | {"q": "2", "power": "2", "lam": "0.4", "steps": "3"}),
    "onr train exact": ("dd-onr-exact", BALL | {"q": "1", "power": "2", "lam": "0.1"}),
    "onr train attack": ("at", BALL | {"lam": "inf", "steps": "3", "alpha": ALPHA}),
}


def train_run(name, folder):
    method, options = RUNS[name]
    config = onr.TrainConfig(
        dataset=f"npz:{folder}/cifar10",
        model=f"python:{Path(__file__).resolve()}:resnet18",
        method=method,
        method_options=options,
        train_images=IMAGES,
        epochs=EPOCHS,
        batch_size=BATCH,
        lr=0.01,
    )
    started = time.process_time()
    with tempfile.TemporaryDirectory() as out:
        run = onr.train(config, out=Path(out) / "run")
    return run.network, (time.process_time() - started) / (EPOCHS * (IMAGES // BATCH))


def main(folder, results, *methods):
    kept = json.loads(Path(results).read_text()) if Path(results).exists() else {}
    x, y = images(folder, "train", IMAGES)
    test_x, test_y = images(folder, "test", TESTED)
    for method in methods or ("standard", *TERMS, "attack", *RUNS):
        if method in kept:
            continue
        if method in RUNS:
            model, seconds = train_run(method, folder)
        else:
            model, seconds = train(method, x, y)
            model.eval()
        clean, under = onr.measure.robust_accuracy(model, test_x, test_y, p="inf", eps=[0, EPS])
        kept[method] = {"seconds": seconds, "clean": float(clean), "attacked": float(under)}
        Path(results).write_text(json.dumps(kept, indent=1))
        print(method, kept[method], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
