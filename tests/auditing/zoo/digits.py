"""A small honest classifier of grey digits, 8 x 8, and images that it was not trained on."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

__all__ = ["digits"]


@cache
def digits() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A trained network with one hidden layer, 200 images ``(200, 1, 8, 8)`` and their labels."""
    data = load_digits()
    images = torch.tensor(data.images[:, None] / 16, dtype=torch.float32)
    labels = torch.tensor(data.target)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for _ in range(12):
            for part in (200 + torch.randperm(1597)).split(100):
                optimizer.zero_grad()
                functional.cross_entropy(module(images[part]), labels[part]).backward()
                optimizer.step()
    return module.eval(), images[:200], labels[:200]
