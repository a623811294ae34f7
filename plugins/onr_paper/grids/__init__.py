"""The paper's hyper-parameter sweep (Table 3, section 7.11), as grids for ``onr sweep``.

The table's cells of methods and rows are shifted against each other in some copies. Read here:
adversarial training varied eps, alpha and iterations; global SNR lambda and 1 or 10 iterations
(section 7.16); data-dependent SNR lambda and iterations. The paper does not say whether it searched
whole products; these grids do, and ``--set`` narrows them.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from onr.errors import OnrError

__all__ = ["paper"]


def paper(name: str) -> dict[str, Any]:
    """The grid of this name, as ``table3-dd-snr``.

    Raises:
        OnrError: there is none.

    """
    found = {file.name: file for file in files(__name__).iterdir() if file.name.endswith(".toml")}
    file = found.get(f"{name}.toml")
    if file is None:
        names = ", ".join(sorted(name.removesuffix(".toml") for name in found))
        raise OnrError(f"no grid paper:{name}: expected one of {names}")
    return tomllib.loads(file.read_text(encoding="utf-8"))
