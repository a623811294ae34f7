"""The scales of a reproduction. Each is one table of numbers, and scales differ in nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onr.errors import OnrError
from onr.numerals import number
from onr.registry import bare
from onr.training.config import TrainConfig
from onr.training.layered_config import configuration
from onr_paper.presets import CNN7, WRN
from onr_validation.grids import frontier

__all__ = ["SCALES", "Scale", "scale_named"]

Options = Mapping[str, str]


@dataclass(frozen=True)
class Scale:
    """The numbers of one scale. Radii and eps are in pixels in [0, 1].

    Example:
        >>> scale = scale_named("tiny")
        >>> scale.eps("at"), scale.network_name("cnn7"), scale.data_name("svhn")
        (1.0, 'mlp', 'digits')
        >>> scale.model("dd-snr").method_options["lam"]
        '0.3'

    """

    name: str
    training: Mapping[str, Any]
    """Settings of ``onr train`` that all models share."""
    datasets: Mapping[str, Mapping[str, Any]]
    """Settings of the data sets that play the roles of ``cifar10`` and ``svhn``."""
    networks: Mapping[str, Mapping[str, Any]]
    """Settings of the networks that play the roles of ``cnn7`` and ``wrn-28-10``."""
    methods: Mapping[str, tuple[str, Options]]
    """The registered method and its options, by the name that the figures use."""
    special: Mapping[tuple[str, str], Options]
    """Options that a method has on one network only, by network and method."""
    seeds: tuple[int, ...]
    """The seeds of Fig. 3 left, Table 2 and the foils. All other models use the first seed."""
    radius: Mapping[str, float]
    """The radius of training, by norm. No method trains with the l1 norm, whose radius is a usual
    one.
    """
    radii: Mapping[str, tuple[float, ...]]
    """The radii at which accuracy and alignment are measured, by the norm of the attack."""
    distances: Mapping[str, tuple[float, ...]]
    """The radii at which linearity and activations are measured, by the norm of the attack. Fig. 5,
    with random directions, uses those of the l2 norm.
    """
    images: int
    """How many test images accuracy and alignment are measured on."""
    wide_images: int
    """How many test images the accuracy of the wide residual network is measured on."""
    jacobians: int
    """How many test images are used for spectra, linearity, activations, norms, directions."""
    validation_images: int
    """How many validation images Table 3 is measured on."""
    alphas: tuple[float, ...]
    """The step sizes of Fig. 6, in ``eps / steps``."""
    mixtures: tuple[float, ...]
    """The values of ``t`` in Fig. 7 between its ends 0 and 1."""
    sweep: Mapping[tuple[str, str], tuple[str, ...]]
    """The values that Table 3 tries, by method and option. All other options are as in
    ``methods``.
    """
    frontier: Mapping[str, Any]
    """The grid of the models of the frontiers of fast training, as ``onr sweep`` takes it."""
    frontier_small: Mapping[str, Any]
    """The same for one ball, in minutes."""
    timing: Mapping[str, Any]
    """The settings of :func:`onr_validation.experiments.fast_training.step_seconds`."""

    def network_name(self, role: str) -> str:
        """The name of the network that plays a role, such as ``cnn7 (width 16)``."""
        settings = self.networks[role]
        options = ", ".join(f"{k} {v}" for k, v in settings.get("model_options", {}).items())
        name = bare(settings["model"])
        return f"{name} ({options})" if options else name

    def data_name(self, role: str) -> str:
        """The name of the data set that plays a role, such as ``svhn``."""
        name: str = self.datasets[role]["dataset"]
        return name.rpartition(":")[2]

    def eps(self, method: str = "at") -> float:
        """The radius that a method is trained with, in pixels in [0, 1]."""
        return number(self.methods[method][1]["eps"])

    def model(
        self,
        method: str,
        *,
        data: str = "cifar10",
        network: str = "cnn7",
        seed: int = 0,
        options: Options | None = None,
    ) -> TrainConfig:
        """The configuration with which a model is trained.

        Args:
            method: the method's name in the figures.
            data: the role of the data set.
            network: the role of the network.
            seed: the seed of initial weights and training.
            options: options of the method that replace those of the scale.

        """
        name, usual = self.methods[method]
        special = self.special.get((network, method), {})
        return configuration(
            self.training,
            self.networks[network],
            self.datasets[data],
            {
                "method": f"onr_paper:{name}",
                "method_options": {**usual, **special, **(options or {})},
                "seed": seed,
            },
        )


def _methods(
    eps: str,
    eps_inf: str,
    *,
    lam: str,
    lam_inf: str,
    lam_global: str,
    lam_gradient: str,
    lam_frobenius: str,
    power: str,
) -> dict[str, tuple[str, Options]]:
    l2, linf = {"p": "2", "eps": eps}, {"p": "inf", "eps": eps_inf}
    return {
        "standard": ("standard", {}),
        "at": ("at", {**l2, "steps": "10"}),
        "dd-snr": ("dd-snr", {"eps": eps, "lam": lam, "steps": "10"}),
        "global-snr": ("global-snr", {"lam": lam_global, "steps": "1"}),
        "global-snr-10": ("global-snr", {"lam": lam_global, "steps": "10"}),
        "at-linf": ("at", {**linf, "steps": "10"}),
        "dd-onr": ("dd-onr", {**linf, "q": "2", "lam": lam_inf, "power": power, "steps": "10"}),
        "dd-onr-exact": ("dd-onr-exact", {**l2, "q": "2", "lam": lam, "power": "2"}),
        # Half a round of the power method alone, as Eq. 7; the experiment frontier has the rest.
        "dd-snr-warm": (
            "dd-snr-warm",
            {"eps": eps, "lam": lam, "far": "0", "noise": "0", "share": "0"},
        ),
        "at-fgm": ("at", {**l2, "attack": "fgm"}),
        "input-gradient": ("input-gradient", {**l2, "lam": lam_gradient}),
        "frobenius": ("frobenius", {"eps": eps, "lam": lam_frobenius}),
        "interpolate": ("interpolate", {"eps": eps, "lam": lam, "steps": "10"}),
    }


def _timing(width: int, batch: int, turns: int) -> dict[str, Any]:
    """How the steps of the frontiers' methods are timed; ``alpha`` as in the grids."""
    methods = [
        "at-10 onr_paper:at",
        "at-1 onr_paper:at steps=1",
        "n-fgsm onr_fast_training:n-fgsm",
        "gat onr_fast_training:gat",
        "dd-snr-warm onr_paper:dd-snr-warm",
    ]
    sizes = {"width": width, "batch": batch, "turns": turns}
    return {"methods": methods, "p": "inf", "eps": "8/255"} | sizes


TINY = Scale(
    name="tiny",
    training={"epochs": 20},
    datasets={"cifar10": {"dataset": "onr_paper:digits"}, "svhn": {"dataset": "onr_paper:digits"}},
    networks={
        "cnn7": {"model": "onr_paper:mlp"},
        "wrn-28-10": {
            "model": "onr_torch:wrn-28-10",
            "model_options": {"depth": 10, "width": 1},
            "epochs": 4,
        },
    },
    methods=_methods(
        "1",
        "0.1",
        lam="0.3",
        lam_inf="0.3",
        lam_global="0.01",
        lam_gradient="0.1",
        lam_frobenius="0.03",
        power="2",
    ),
    special={},
    seeds=(0, 1, 2),
    radius={"1": 3.0, "2": 1.0, "inf": 0.1},
    radii={
        "2": (0.25, 0.5, 0.75, 1.0, 1.25, 1.5),
        "inf": (0.025, 0.05, 0.075, 0.1, 0.125, 0.15),
    },
    distances={
        "2": (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0),
        "inf": (0.025, 0.05, 0.075, 0.1, 0.15, 0.2),
    },
    images=360,
    wide_images=360,
    jacobians=100,
    validation_images=143,
    alphas=(0.1, 0.5, 1, 2, 5, 20),
    mixtures=(0.25, 0.5, 0.75),
    sweep={
        ("at", "eps"): ("0.5", "1", "1.5"),
        ("at-linf", "eps"): ("0.05", "0.1", "0.15"),
        ("at", "steps"): ("1", "10"),
        ("at", "alpha"): ("1*eps/steps", "2*eps/steps", "5*eps/steps"),
        ("global-snr", "lam"): ("0.001", "0.01", "0.1"),
        ("global-snr", "steps"): ("1", "10"),
        ("dd-snr", "lam"): ("0.1", "0.3", "1"),
        ("dd-snr", "steps"): ("1", "10"),
    },
    frontier=frontier("tiny"),
    frontier_small=frontier("tiny"),
    timing=_timing(2, 8, 3),
)
"""Bundled digits: every experiment runs in minutes, as a test. One data set plays both roles."""

CPU = Scale(
    name="cpu",
    training={"dtype": "bfloat16", "epochs": 8, "lr": 0.01},
    datasets={
        "cifar10": {
            "dataset": "onr_paper:stored:cifar10",
            "train_images": 10000,
            "augment": "crop-flip",
        },
        "svhn": {"dataset": "onr_paper:stored:svhn", "augment": "crop", "epochs": 12},
    },
    networks={
        "cnn7": {"model": "onr_paper:cnn7", "model_options": {"width": 16}},
        "wrn-28-10": {"model": "onr_torch:wrn-28-10", "model_options": {"depth": 10, "width": 1}},
    },
    methods=_methods(
        "0.875",
        "4/255",
        lam="0.4",
        lam_inf="0.4",
        lam_global="0.7",
        lam_gradient="0.1",
        lam_frobenius="0.005",
        power="2",
    ),
    special={},
    seeds=(0, 1, 2),
    radius={"1": 12.0, "2": 0.875, "inf": 4 / 255},
    radii={
        "2": (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5),
        "inf": tuple(k / 510 for k in (1, 2, 3, 4, 5, 6, 8, 10, 12)),
    },
    distances={
        "2": (0.125, 0.25, 0.5, 0.875, 1.25, 1.75, 2.5, 3.5, 5.0),
        "inf": tuple(k / 510 for k in (1, 2, 4, 6, 8, 12, 16, 24)),
    },
    images=1000,
    wide_images=1000,
    jacobians=200,
    validation_images=1000,
    alphas=(0.1, 0.5, 1, 2, 5, 20),
    mixtures=(0.25, 0.5, 0.75),
    sweep={
        ("at", "eps"): ("0.4375", "0.875", "1.3125"),
        ("at-linf", "eps"): ("2/255", "4/255", "6/255"),
        ("at", "steps"): ("1", "10"),
        ("at", "alpha"): ("1*eps/steps", "2*eps/steps", "5*eps/steps"),
        ("global-snr", "lam"): ("0.1", "0.3", "0.5", "0.7", "1"),
        ("global-snr", "steps"): ("1", "10"),
        ("dd-snr", "lam"): ("0.1", "0.4", "1.6"),
        ("dd-snr", "steps"): ("1", "10"),
    },
    frontier=frontier("cpu"),
    frontier_small=frontier("small"),
    timing=_timing(16, 128, 7),
)
"""CIFAR-10 and SVHN from ``npz`` files, and networks with a sixty-fourth of the paper's weights."""

ITERATIONS = ("1", "2", "3", "5", "8", "10", "15", "20", "30", "40", "50")
LAM = ("1e-5", "3e-5", "1e-4", "3e-4", "1e-3", "3e-3", "0.01", "0.03", "0.1", "0.3", "1", "3")
PAPER = Scale(
    name="paper",
    training={"device": "cuda"},
    datasets={"cifar10": {"dataset": "onr_paper:cifar10"}, "svhn": {"dataset": "onr_paper:svhn"}},
    networks={"cnn7": CNN7, "wrn-28-10": WRN},
    methods=_methods(
        "0.875",
        "4/255",
        lam="0.03",
        lam_inf="0.03",
        lam_global="3e-4",
        lam_gradient="0.1",
        lam_frobenius="0.001",
        power="1",
    ),
    special={("wrn-28-10", "dd-snr"): {"lam": "0.3"}},
    seeds=(0,),
    radius={"1": 12.0, "2": 0.875, "inf": 4 / 255},
    radii={
        "2": tuple(k / 8 for k in range(1, 17)),
        "inf": tuple(k / 510 for k in range(1, 17)),
    },
    distances={
        "2": (0.125, 0.25, 0.5, 0.875, 1.25, 1.75, 2.5, 3.5, 5.0, 7.0),
        "inf": tuple(k / 510 for k in (1, 2, 4, 6, 8, 12, 16, 24, 32)),
    },
    images=2000,
    wide_images=10000,
    jacobians=200,
    validation_images=1000,
    alphas=(0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 100),
    mixtures=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    sweep={
        ("at", "eps"): (
            *("0.25", "0.375", "0.5", "0.625", "0.75", "0.875", "1"),
            *("1.25", "1.375", "1.5", "1.625", "1.75", "1.875", "2"),
        ),
        ("at-linf", "eps"): ("4/255", *(f"{k}/510" for k in range(1, 19) if k != 8)),
        ("at", "steps"): ITERATIONS,
        ("at", "alpha"): tuple(f"{k}*eps/steps" for k in range(1, 6)),
        ("global-snr", "lam"): (*LAM, "10", "30"),
        ("global-snr", "steps"): ("1", "10"),
        ("dd-snr", "lam"): (*LAM, "10", "30"),
        ("dd-snr", "steps"): ITERATIONS,
    },
    frontier=frontier("paper"),
    frontier_small=frontier("small"),
    timing=_timing(128, 128, 7),
)
"""The paper's Tables 2 and 3. The lam of each foil is ours, untried at this scale."""

SCALES = {scale.name: scale for scale in (TINY, CPU, PAPER)}


def scale_named(name: str) -> Scale:
    """Look up a scale by its name: ``tiny``, ``cpu`` or ``paper``.

    Raises:
        OnrError: no scale has this name.

    Example:
        >>> scale_named("cpu").images
        1000

    """
    if name not in SCALES:
        raise OnrError(f"no scale {name!r}: expected one of {', '.join(SCALES)}")
    return SCALES[name]
