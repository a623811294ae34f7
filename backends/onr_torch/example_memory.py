"""A vector that is remembered for each training example, from one visit to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from onr.errors import OnrError
from onr.numerals import require_whole

__all__ = ["ExampleMemory"]


class ExampleMemory:
    """A vector for each training example; zero for an example that was not visited yet.

    Args:
        examples: the number of training examples; ``None`` where no index will be given.

    Raises:
        OnrError: the number is no whole number >= 1.

    Example:
        >>> memory = ExampleMemory(5)
        >>> rows = memory.rows([3, 1], torch.zeros(2, 7))
        >>> memory.keep(rows, torch.ones(2, 4))
        >>> memory.of(rows).shape, memory.vectors.sum(dim=1)
        (torch.Size([2, 4]), tensor([0., 4., 0., 4., 0.]))

    """

    def __init__(self, examples: int | None) -> None:
        require_whole(examples=examples)
        self.examples = examples
        self.vectors: torch.Tensor | None = None
        """Shape ``(examples, d)``; ``None`` until the first vectors are kept."""

    def rows(self, index: Any, x: torch.Tensor, /) -> torch.Tensor:
        """The index of the examples ``x`` as a tensor, on the device of ``x``.

        Raises:
            OnrError: the index is not one whole number for each example, in
                ``[0, examples)``, or the number of examples is not known.

        """
        if self.examples is None:
            raise OnrError("an index, and no number of examples: give examples = N, all in all")
        try:
            rows = torch.as_tensor(np.array(index) if isinstance(index, np.ndarray) else index)
        except (TypeError, ValueError, RuntimeError) as error:
            raise OnrError(f"an index that is no array of whole numbers: {error}") from error
        is_whole = not (rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool)
        if rows.shape != (len(x),) or not is_whole:
            raise OnrError(
                f"an index of shape {tuple(rows.shape)} and {rows.dtype}: expected one whole "
                f"number for each input, ({len(x)},)"
            )
        rows = rows.to(torch.int64)  # torch takes uint8 for a mask
        if not rows.is_cuda and len(rows) and not (rows.min() >= 0 and rows.max() < self.examples):
            raise OnrError(
                f"the index runs from {rows.min()} to {rows.max()}: expected 0 to "
                f"{self.examples - 1}, for {self.examples} examples"
            )
        return rows.to(x.device)

    def of(self, rows: torch.Tensor, /) -> torch.Tensor | None:
        """The vectors of these examples, on the device of ``rows``; ``None`` if none is kept."""
        if self.vectors is None:
            return None
        self.vectors = self.vectors.to(rows.device)
        return self.vectors[rows]

    def keep(self, rows: torch.Tensor, vectors: torch.Tensor, /) -> None:
        """Replace the vectors of these examples, ``(batch, d)``."""
        with torch.inference_mode(False):
            kept = vectors.clone()
            if self.vectors is None:
                assert self.examples is not None  # noqa: S101 - by rows()
                self.vectors = kept.new_zeros((self.examples, kept.shape[1]))
            self.vectors[rows] = kept.to(self.vectors.dtype)

    def fitting(self, vectors: Any, /) -> torch.Tensor | None:
        """A copy of the vectors of a state, if they fit this memory; ``None`` for none.

        Raises:
            OnrError: they are not a row for each example.

        """
        if vectors is None:
            return None
        shape = tuple(getattr(vectors, "shape", ()))
        if len(shape) != 2 or shape[0] != self.examples:
            raise OnrError(
                f"a memory of shape {shape}: expected one row for each of {self.examples} examples"
            )
        found: torch.Tensor = vectors.clone()
        return found
