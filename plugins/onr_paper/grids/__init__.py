"""The paper's hyper-parameter sweep (Table 3, section 7.11), as grids for ``onr sweep``.

In some copies of the paper the methods of Table 3 are not aligned with their rows. These grids
assume that adversarial training varied eps, alpha and the iterations; global SNR varied lambda, and
1 or 10 iterations (section 7.16); data-dependent SNR varied lambda and the iterations. The paper
does not say whether it searched the whole product of the values. These grids do, and ``--set``
narrows them.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from onr.errors import OnrError

__all__ = ["paper"]


def paper(name: str) -> dict[str, Any]:
    """The grid of this name, such as ``table3-dd-snr``.

    Raises:
        OnrError: no grid has this name.

    Example:
        >>> paper("table3-dd-snr")["preset"]
        'onr_paper:paper:cifar10-dd-snr'

    """
    found = {file.name: file for file in files(__name__).iterdir() if file.name.endswith(".toml")}
    file = found.get(f"{name}.toml")
    if file is None:
        names = ", ".join(sorted(name.removesuffix(".toml") for name in found))
        raise OnrError(f"no grid paper:{name}: expected one of {names}")
    return tomllib.loads(file.read_text(encoding="utf-8"))
