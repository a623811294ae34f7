"""The paper's hyper-parameters (Table 2, section 7.10), as settings of ``onr train``.

The paper gives the architecture and its width, the augmentation, and for each method the radius,
the weight and the number of iterations. The paper's eps are for pixels in [-1, 1] and are halved
here. The paper does not give the optimiser, the learning rate and the number of epochs: its
regularised models start from a trained network, with values found by a search. Our values train
from scratch: Adam with a one-cycle schedule for CNN7, and for WRN-28-10 the settings of Zagoruyko
and Komodakis (2016) with a cosine schedule.
"""

from __future__ import annotations

from typing import Any

from onr.errors import OnrError

__all__ = ["CNN7", "WRN", "paper"]

METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "standard": ("onr_paper:standard", {}),
    "at-l2": ("onr_paper:at", {"p": "2", "eps": "0.875", "steps": "10"}),
    "at-linf": ("onr_paper:at", {"p": "inf", "eps": "4/255", "steps": "10"}),
    "dd-snr": ("onr_paper:dd-snr", {"eps": "0.875", "lam": "0.03", "steps": "10"}),
    "dd-onr": (
        "onr_paper:dd-onr",
        {"p": "inf", "q": "2", "eps": "4/255", "lam": "0.03", "steps": "10"},
    ),
    "global-snr": ("onr_paper:global-snr", {"lam": "3e-4", "steps": "1"}),
}
CNN7: dict[str, Any] = {
    "model": "onr_paper:cnn7",
    "model_options": {"width": "128"},
    "epochs": 100,
    "lr": 0.001,
}
WRN: dict[str, Any] = {
    "model": "onr_torch:wrn-28-10",
    "optimizer": "sgd",
    "nesterov": True,
    "weight_decay": 5e-4,
    "epochs": 200,
    "lr": 0.1,
    "schedule": "cosine",
}


NETWORKS: dict[str, dict[str, Any]] = {
    "cifar10": CNN7 | {"dataset": "onr_paper:cifar10"},
    "svhn": CNN7 | {"dataset": "onr_paper:svhn"},
    "cifar10-wrn": WRN | {"dataset": "onr_paper:cifar10"},
}


def paper(name: str) -> dict[str, Any]:
    """The settings named ``NETWORK-METHOD``, such as ``cifar10-at-l2`` or ``cifar10-wrn-dd-snr``.

    Raises:
        OnrError: no settings have this name.

    Example:
        >>> paper("cifar10-at-l2")["method_options"]
        {'p': '2', 'eps': '0.875', 'steps': '10'}

    """
    names = {f"{network}-{method}": (network, method) for network in NETWORKS for method in METHODS}
    if name not in names:
        raise OnrError(f"no preset paper:{name}: expected one of {', '.join(names)}")
    network, method = names[name]
    trained, options = METHODS[method]
    if name == "cifar10-wrn-dd-snr":
        options = options | {"lam": "0.3"}
    return NETWORKS[network] | {"method": trained, "method_options": options}
