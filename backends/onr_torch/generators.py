"""The state of a NumPy generator as a tensor, as state dictionaries hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch

from onr.errors import OnrError

__all__ = ["rng_state", "set_rng_state"]


def rng_state(rng: np.random.Generator) -> torch.Tensor:
    """The state of a generator, as bytes of JSON.

    Example:
        >>> rng_state(np.random.default_rng(0)).dtype
        torch.uint8

    """
    text = json.dumps(rng.bit_generator.state, default=lambda array: array.tolist())
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def set_rng_state(rng: np.random.Generator, state: Mapping[str, torch.Tensor]) -> None:
    """Set a generator to the state under the key ``rng``.

    Raises:
        OnrError: there is none, or it is that of another kind of generator.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> state = {"rng": rng_state(rng)}
        >>> one = rng.random()
        >>> set_rng_state(rng, state)
        >>> rng.random() == one
        True

    """
    try:
        rng.bit_generator.state = json.loads(bytes(state["rng"].tolist()))
    except (KeyError, AttributeError, ValueError, TypeError) as error:
        raise OnrError(f"no state of a regulariser with this generator: {error}") from error
