"""What a training step of each method costs, in turns: ``pytest --benchmark-only``."""

from functools import partial

import numpy as np
import pytest
from turns import in_turns, ratios

from onr.architectures import Normalize
from onr.data import Split
from onr.registry import load
from onr.training.optimizers import Optimizer
from onr_paper.models import cnn7
from onr_torch.backend import TorchBackend

BATCH = 128
STEPS = {
    "standard": ("standard", {}),
    "at, ten steps": ("at", {}),
    "at, one step": ("at", {"steps": 1}),
    "dd-snr": ("dd-snr", {}),
    "dd-snr-warm": ("dd-snr-warm", {}),
    "dd-onr 2 2": ("dd-onr", {}),
    "dd-onr-exact 2 2": ("dd-onr-exact", {}),
    "dd-onr inf 1": ("dd-onr", {"p": "inf", "q": "1"}),
    "dd-onr-exact inf 1": ("dd-onr-exact", {"p": "inf", "q": "1"}),
    "global-snr": ("global-snr", {}),
    "input-gradient": ("input-gradient", {}),
    "frobenius": ("frobenius", {}),
}


def learner(method, options, dtype):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, 3, 32, 32), dtype=np.uint8)
    network = TorchBackend().build(
        cnn7((3, 32, 32), 10, normalize=Normalize((0.5,) * 3, (0.25,) * 3), width=16), dtype=dtype
    )
    return TorchBackend().learner(
        network,
        load("method", method)(**options),
        Split(images, rng.integers(0, 10, BATCH)),
        optimizer=Optimizer(),
        augmentation="crop-flip",
    )


def step(taught):
    return float(taught.step(np.arange(BATCH), lr=1e-3, rng=np.random.default_rng(0)))


@pytest.mark.benchmark(group="training step, cnn7, width 16, batch 128")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_steps_in_turns(benchmark, dtype):
    """The exact norm costs less than ten iterations, the warm start two fifths of ten steps."""
    works = {name: partial(step, learner(*case, dtype)) for name, case in STEPS.items()}
    benchmark.pedantic(works["standard"], rounds=3)
    cost = ratios(benchmark, in_turns(works), "at, ten steps")
    assert cost["dd-onr-exact 2 2"] < cost["dd-onr 2 2"]
    assert cost["dd-onr-exact inf 1"] < cost["dd-onr inf 1"]
    assert cost["dd-snr-warm"] <= 0.4
    assert cost["dd-snr-warm"] <= 1.05 * cost["at, one step"]
