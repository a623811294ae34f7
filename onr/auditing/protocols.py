"""The records that an audit and its checks exchange, and the protocol of a check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from onr.auditing.block import Block
from onr.auditing.threat import Threat

__all__ = ["Check", "Evidence", "Flag"]


@dataclass(frozen=True)
class Evidence:
    """What was measured at all images, from which each check reaches its verdict.

    Example:
        >>> from onr.norms import LpNorm
        >>> threat = Threat(LpNorm(2), "0.5")
        >>> columns = {"label": np.zeros(3), "mine: gap": np.array([1.0, 2.0, np.nan])}
        >>> evidence = Evidence(columns, threat, classes=10)
        >>> evidence.of("mine")
        {'gap': array([ 1.,  2., nan])}

    """

    columns: Mapping[str, np.ndarray]
    """The columns of the table (:mod:`onr.auditing.images`), and those of every check, named
    ``CHECK: NAME``; each of shape ``(N,)``, NaN where an image was not measured."""
    threat: Threat
    """The ball, and the radii of the audit."""
    classes: int
    """The number of logits."""
    refused: str = ""
    """Why the other commands of onr refuse this model; empty if they do not."""

    def of(self, check: str) -> dict[str, np.ndarray]:
        """The columns that one check measured, by the names that it gave them."""
        start = f"{check}: "
        return {
            name.removeprefix(start): values
            for name, values in self.columns.items()
            if name.startswith(start)
        }


@dataclass(frozen=True)
class Flag:
    """The verdict of a check.

    Example:
        >>> print(Flag("chance", True, 0.1, 0.1, "field", "10.0 % of 500 images are correct"))
        RAISED chance: 10.0 % of 500 images are correct

    """

    name: str
    """The name of the check, which ``onr explain`` takes."""
    raised: bool | None
    """Whether the flag is raised; ``None`` if the check could not decide."""
    value: float | None
    """The number that decides, ``None`` if it was not measured."""
    threshold: float
    """What the number is compared with."""
    source: str
    """Where the check and its threshold come from."""
    detail: str
    """What was found, in one line; if nothing was measured, why not."""
    images: int = 0
    """At how many images the number was measured."""
    comparison: str = field(default="above", kw_only=True)
    """``above`` or ``below``: on which side of the threshold the flag is raised."""

    def __str__(self) -> str:
        """The state, the name and what was found."""
        state = {True: "RAISED", False: "ok", None: "not checked"}[self.raised]
        return f"{state} {self.name}: {self.detail}"


@runtime_checkable
class Check(Protocol):
    """One question that an expert asks before the numbers of an attack are believed.

    A check measures columns at the images of a block, and reaches its verdict from the columns of
    all images. It may be run for every block in another process, so that it keeps nothing between
    calls. Derive from :class:`onr.auditing.base_check.BaseCheck`, which has defaults.
    """

    name: str
    """What users write, as the entry of the plugin names it."""
    summary: str
    """What a raised flag says, in a few words."""
    threshold: float
    source: str
    meaning: str
    """A paragraph for ``onr explain``: what a raised flag means."""
    remedy: str
    """A paragraph for ``onr explain``: what to do next."""

    def measure(self, block: Block, /) -> Mapping[str, np.ndarray]:
        """Columns of floats or texts, ``(len(block),)``; NaN or an empty text where none.

        A check that needs few images gives nothing for the others: ``block.first(100)``.
        """

    def verdict(self, evidence: Evidence, /) -> Flag:
        """The flag, from what was measured at all images."""
