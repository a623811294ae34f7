"""From the same weights and batches, both backends take the same steps."""

import numpy as np
import pytest

from onr.training.config import TrainConfig
from onr.training.factories import make_backend, make_dataset, make_network
from onr.training.loop import Training

CASES = {
    "standard": ("standard", {}),
    "at-l2": ("at", {"p": "2", "eps": "0.5"}),
    "at-linf-perturbed-alone": ("at", {"p": "inf", "eps": "1/10", "lam": "inf"}),
    "at-l1": ("at", {"p": "1", "eps": "2"}),
    "at-l1.5": ("at", {"p": "1.5", "eps": "0.5", "steps": "3"}),
    "at-margin": ("at", {"loss": "margin"}),
    "at-lq1": ("at", {"loss": "lq:1", "p": "inf", "eps": "0.05", "lam": "0.5"}),
    "at-limit": ("at", {"loss": "lq:2", "alpha": "inf", "lam": "0.5"}),
    "dd-snr": ("dd-snr", {}),
    "dd-snr-jacobian": ("dd-snr", {"form": "jacobian"}),
    "dd-onr-inf-1": ("dd-onr", {"p": "inf", "q": "1", "eps": "0.05"}),
    "dd-onr-1-inf": ("dd-onr", {"p": "1", "q": "inf", "eps": "1", "form": "jacobian"}),
    "dd-onr-3-1.5": ("dd-onr", {"p": "3", "q": "1.5", "eps": "0.3"}),
    "dd-onr-finite-alpha": ("dd-onr", {"alpha": "5", "form": "jacobian"}),
    "dd-onr-cubed": ("dd-onr", {"power": "3", "lam": "0.02"}),
    "dd-onr-exact": ("dd-onr-exact", {"form": "jacobian"}),
    "dd-onr-exact-inf-1": ("dd-onr-exact", {"p": "inf", "q": "1", "eps": "0.05"}),
    "dd-snr-warm": ("dd-snr-warm", {}),
    "dd-snr-warm-inf-2": ("dd-snr-warm", {"p": "inf", "eps": "0.05"}),
    "dd-snr-warm-jacobian": ("dd-snr-warm", {"form": "jacobian"}),
    "at-fgm": ("at", {"attack": "fgm"}),
    "global-snr": ("global-snr", {"lam": "0.05"}),
    "global-snr-10": ("global-snr", {"lam": "0.05", "steps": "10", "kernel": "convolution"}),
    "interpolate": ("interpolate", {"t": "0.3"}),
    "interpolate-jacobian": ("interpolate", {"t": "0.7", "form": "jacobian"}),
    "input-gradient": ("input-gradient", {}),
    "input-gradient-inf": ("input-gradient", {"p": "inf", "eps": "0.05"}),
    "frobenius": ("frobenius", {}),
}


OPTIMIZERS = {
    "adam": {"optimizer": "adam"},
    "sgd": {"optimizer": "sgd"},
    "adam-decay": {"optimizer": "adam", "weight_decay": 0.1},
    "adamw-decay": {"optimizer": "adamw", "weight_decay": 0.1},
    "sgd-decay-nesterov": {"optimizer": "sgd", "weight_decay": 0.1, "nesterov": True},
    "sgd-plain": {"optimizer": "sgd", "momentum": 0.0},
}


def trained(backend, method, options, optimizer, steps=30):
    config = TrainConfig(
        backend=backend,
        dtype="float64",
        train_images=500,
        model_options={"width": "16"},
        method=method,
        method_options=options,
        batch_size=50,
        epochs=5,
        augment="crop-flip" if method == "standard" else "none",
        lr=0.01,
        **OPTIMIZERS[optimizer],
    )
    training = Training(config)
    states = []
    rngs = np.random.default_rng(0)
    for step in range(steps):
        batch = rngs.integers(0, len(training.fit), 50)
        rng = np.random.default_rng([1, step])
        training.learner.step(batch, lr=0.01, rng=rng)
        state = training.learner.state()
        kept = ("model.", "memory", "weight_memory.")
        states.append({k: v for k, v in state.items() if k.startswith(kept)})
    return states


# The optimiser does not see the method: four stand for all under sgd, one under the others.
RUNS = [(case, "adam") for case in CASES]
RUNS += [(case, "sgd") for case in ("standard", "at-l2", "dd-snr", "dd-onr-1-inf")]
RUNS += [("standard", optimizer) for optimizer in OPTIMIZERS if optimizer not in ("adam", "sgd")]


@pytest.mark.parametrize(("case", "optimizer"), RUNS)
def test_same_weights_after_every_step(case, optimizer):
    method, options = CASES[case]
    ours = trained("numpy", method, options, optimizer)
    theirs = trained("torch", method, options, optimizer)
    first = trained("numpy", "standard", {}, optimizer, steps=1)[0]
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.keys() == b.keys()
        for name, value in a.items():
            np.testing.assert_allclose(value, b[name], rtol=0, atol=1e-9, err_msg=f"step {step}")
    moved = max(np.abs(ours[-1][name] - first[name]).max() for name in first if name in ours[-1])
    assert moved > 5e-3


def test_one_seed_draws_one_network():
    config = TrainConfig(dtype="float64")
    dataset = make_dataset(config)
    parameters = []
    for name in ("numpy", "torch"):
        backend = make_backend(TrainConfig(backend=name))
        parameters.append(make_network(config, backend, dataset).parameters())
    assert parameters[0].keys() == parameters[1].keys()
    for name, value in parameters[0].items():
        np.testing.assert_array_equal(value, parameters[1][name])
