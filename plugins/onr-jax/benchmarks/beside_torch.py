"""Products and an attack of one small CNN in JAX and in torch: processor seconds on one thread.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/beside_torch.py
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from jax import numpy as jnp
from onr_jax.backend import JaxBackend

import onr
from onr.architectures import Affine, Architecture, Conv, Flatten, MaxPool, ReLU
from onr_torch.backend import TorchBackend

SHAPE, IMAGES, TIMES = (3, 32, 32), 64, 20
LAYERS = (
    *(Conv(32), ReLU(), MaxPool(2), Conv(64), ReLU(), MaxPool(2)),
    *(Flatten(), Affine(128), ReLU(), Affine(10)),
)


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """The processor seconds of the first call, and the median of the later ones."""
    spent = []
    for _ in range(TIMES + 1):
        began = time.process_time()
        jax.block_until_ready(run())
        spent.append(time.process_time() - began)
    return spent[0], statistics.median(spent[1:])


def main() -> None:
    """Print a row for each of the two."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x, v = rng.random((2, IMAGES, *SHAPE), dtype="float32")
    u, y = rng.standard_normal((IMAGES, 10)).astype("float32"), rng.integers(0, 10, IMAGES)
    print(f"{platform.processor()}, jax {jax.__version__}, torch {torch.__version__}")
    for backend, array in ((TorchBackend(), torch.from_numpy), (JaxBackend(), jnp.asarray)):
        network = backend.build(Architecture(SHAPE, LAYERS), dtype="float32").frozen()
        inputs, there = array(x), network.linearize(array(x))
        for name, run in (
            ("linearise", lambda: network.linearize(inputs).value),
            ("J v", lambda: there.jvp(array(v))),
            ("J^T u", lambda: there.vjp(array(u))),
            ("attack", lambda: onr.attack(network, inputs, y, p="inf", eps="8/255", steps=10)),
        ):
            first, later = seconds(run)
            print(f"{type(network).__name__:14} {name:10} first {first:7.3f} s, then {later:.4f} s")


if __name__ == "__main__":
    main()
