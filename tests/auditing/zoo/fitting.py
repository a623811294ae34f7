"""A plain training loop for the models of the zoo that the project's own loop does not train."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

__all__ = ["digits_to_train", "fit"]


@cache
def digits_to_train() -> tuple[torch.Tensor, torch.Tensor]:
    """The 1,597 digits after the first 200, ``(1597, 1, 8, 8)``, and their labels."""
    data = load_digits()
    images = torch.tensor(data.images[200:, None] / 16, dtype=torch.float32)
    return images, torch.tensor(data.target[200:])


def fit(
    build: Callable[[], nn.Module],
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    epochs: int = 12,
    rate: float = 0.01,
    seed: int = 0,
) -> nn.Module:
    """A module that is built and trained from a seed, by Adam on the cross-entropy.

    Targets are labels, ``(N,)``, or probabilities, ``(N, classes)``.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        module = build()
        optimizer = torch.optim.Adam(module.parameters(), lr=rate)
        for _ in range(epochs):
            for part in torch.randperm(len(images)).split(100):
                optimizer.zero_grad()
                functional.cross_entropy(module(images[part]), targets[part]).backward()
                optimizer.step()
    return module.eval()
