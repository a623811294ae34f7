"""Products and an attack of one small CNN in JAX and in torch: processor seconds on one thread.

OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/beside_torch.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from jax import numpy as jnp

import onr
from onr.architectures import Affine, Architecture, Conv, Flatten, MaxPool, ReLU
from onr_jax.backend import JaxBackend
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


def compare(backend: Any, array: Callable[[np.ndarray], Any]) -> None:
    """Print a row for each product and the attack of a backend, whose arrays ``array`` makes."""
    rng = np.random.default_rng(0)
    x, v = (array(each) for each in rng.random((2, IMAGES, *SHAPE), dtype="float32"))
    u = array(rng.standard_normal((IMAGES, 10)).astype("float32"))
    y = rng.integers(0, 10, IMAGES)
    network = backend.build(Architecture(SHAPE, LAYERS), dtype="float32").frozen()
    here = network.linearize(x)
    for name, run in {
        "linearise": lambda: network.linearize(x).value,
        "J v": lambda: here.jvp(v),
        "J^T u": lambda: here.vjp(u),
        "attack": lambda: onr.attack(network, x, y, p="inf", eps="8/255", steps=10),
    }.items():
        first, later = seconds(run)
        print(f"{type(network).__name__:14} {name:10} first {first:7.3f} s, then {later:.4f} s")


def main() -> None:
    """Compare the two backends."""
    torch.set_num_threads(1)
    print(f"jax {jax.__version__}, torch {torch.__version__}")
    compare(TorchBackend(), torch.from_numpy)
    compare(JaxBackend(), jnp.asarray)


if __name__ == "__main__":
    main()
