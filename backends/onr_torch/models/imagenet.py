"""The WordNet ids of the 1,000 classes of ImageNet, which folders of photographs have as names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

__all__ = ["with_wordnet_ids"]

AGREE = 990
"""How many of the 1,000 names have to be ImageNet's, each at its place. Lists differ in a few."""


def with_wordnet_ids(names: Sequence[str], /) -> tuple[str, ...]:
    """Put the WordNet id in front of each name, if the names are those of ImageNet in its order.

    Other names are returned as they are.

    Args:
        names: the class of each output; synonyms are separated by commas.

    Example:
        >>> with_wordnet_ids(["cat", "dog"])
        ('cat', 'dog')

    """
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    agree = sum(
        known in name.split(", ") for known, name in zip(_IMAGENET_CATEGORIES, names, strict=False)
    )
    if len(names) != len(_IMAGENET_CATEGORIES) or agree < AGREE:
        return tuple(names)
    return tuple(f"{identifier}, {name}" for identifier, name in zip(_ids(), names, strict=True))


@cache
def _ids() -> tuple[str, ...]:
    return tuple(Path(__file__).with_name("imagenet_wordnet_ids.txt").read_text().split())
