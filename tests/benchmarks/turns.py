"""Time side by side, in turns: what else the machine does falls on all alike.

On the CPU it is processor time, of one thread if there is one; on a GPU (``ONR_DEVICE=cuda``) the
time on the wall until the device is done.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["DEVICE", "in_turns", "now", "ratios"]

DEVICE = torch.device(os.environ.get("ONR_DEVICE", "cpu"))


def now() -> float:
    """Seconds of the clock of the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, np.ndarray]:
    """Seconds of each in every round, after one that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = now()
            work()
            taken[name].append(now() - start)
    return {name: np.array(seconds[1:]) for name, seconds in taken.items()}


def ratios(benchmark: Any, taken: Mapping[str, np.ndarray], reference: str) -> dict[str, float]:
    """Each one's time over the reference's, the median of the rounds.

    The quartiles, and the milliseconds, go into the benchmark's ``extra_info``.
    """
    found = {}
    for name, seconds in taken.items():
        low, median, high = np.quantile(seconds / taken[reference], [0.25, 0.5, 0.75])
        found[name] = float(median)
        benchmark.extra_info[name] = {
            "ratio": round(float(median), 3),
            "quartiles": [round(float(low), 3), round(float(high), 3)],
            "ms": round(1e3 * float(np.median(seconds)), 1),
        }
    return found
