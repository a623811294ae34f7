"""The paper's hyper-parameter sweep (Table 3, section 7.11), as grids for ``onr sweep``.

In some copies of the paper the methods of Table 3 are not aligned with their rows. These grids
assume that adversarial training varied eps, alpha and the iterations; global SNR varied lambda, and
1 or 10 iterations (section 7.16); data-dependent SNR varied lambda and the iterations. The paper
does not say whether it searched the whole product of the values. These grids do, and ``--set``
narrows them.
"""

from __future__ import annotations

from typing import Any

from onr.sweeps.grids import packaged_grid

__all__ = ["paper"]


def paper(name: str) -> dict[str, Any]:
    """The grid of this name, such as ``table3-dd-snr``.

    Raises:
        OnrError: no grid has this name.

    Example:
        >>> paper("table3-dd-snr")["preset"]
        'onr_paper:paper:cifar10-dd-snr'

    """
    return packaged_grid(__name__, "paper", name)
