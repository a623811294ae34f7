"""Kinds of inputs, and the modes in which a verb runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import numpy as np
import torch

VALUES = {
    "dtype": ("float64", "float32", "bfloat16", "float16", "int8", "uint8", "int64", "complex64"),
    "layout": ("contiguous", "channels_last", "expanded", "strided", "gradient", "inference"),
    "mode": ("enabled", "no_grad", "inference_mode"),
    "autocast": ("plain", "autocast"),
    "batch": (3, 1, 0, 9),
    "fill": ("random", "whole", "nan", "zeros", "subnormal", "inf"),
    "training": ("eval", "train"),
}


class Kind(NamedTuple):
    """One kind of input; its text is the values, as ``float64/contiguous/enabled/...``."""

    dtype: str = "float64"
    layout: str = "contiguous"
    mode: str = "enabled"
    autocast: str = "plain"
    batch: int = 3
    fill: str = "random"
    training: str = "eval"

    def __str__(self) -> str:
        return "/".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> Kind:
        """The kind that a text stands for; what it leaves out has its first value."""
        given = {}
        for word in filter(None, text.split("/")):
            value = int(word) if word.isdecimal() else word
            (axis,) = [axis for axis, values in VALUES.items() if value in values]
            given[axis] = value
        return cls(**given)

    def of_verb(self, verb: str) -> Kind:
        """The kind that a verb can see: a training step takes images, and needs a graph."""
        if verb == "trainable_jvp":
            return self._replace(mode="enabled")
        if not verb.startswith("train-"):
            return self
        # Equal activations tie where statistics of the batch centre them: rounding decides.
        fill = "random" if self.fill in ("zeros", "subnormal") else self.fill
        return Kind(dtype=self.dtype, batch=max(self.batch, 1), fill=fill)

    @property
    def is_plain(self) -> bool:
        """Whether a module that deserves an answer must get one for such inputs."""
        return (
            self.dtype in ("float64", "float32")
            and self.layout != "gradient"
            and self.autocast == "plain"
            and self.batch > 0
            and self.fill in ("random", "whole", "zeros", "subnormal")
            and self.training == "eval"
        )

    @property
    def tolerance(self) -> float:
        """The largest error, relative to the scale of the result."""
        if self.autocast == "autocast" and self.dtype == "float32":
            return 0.1
        return {"float64": 1e-10, "float32": 1e-4, "float16": 0.03}.get(self.dtype, 0.1)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The modes of torch under which the verb runs."""
        with ExitStack() as stack:
            if self.mode == "no_grad":
                stack.enter_context(torch.no_grad())
            if self.mode == "inference_mode":
                stack.enter_context(torch.inference_mode())
            if self.autocast == "autocast":
                stack.enter_context(torch.autocast("cpu", torch.bfloat16))
            yield


def drawn(kind: Kind, rng: np.random.Generator) -> Kind:
    """A random kind: each axis has its plain value or any other, mostly the plain."""
    return Kind(
        **{
            axis: values[int(rng.integers(len(values)))]
            if rng.random() < 0.3
            else getattr(kind, axis)
            for axis, values in VALUES.items()
        }
    )


def inputs(kind: Kind, shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    """Inputs in [0, 1] of this kind, shape ``(batch, *shape)``."""
    dtype = getattr(torch, kind.dtype)
    values = rng.uniform(0.05, 0.95, (kind.batch, *shape))
    if kind.fill == "whole":
        values = np.round(values)
    elif kind.fill == "zeros":
        values = np.zeros_like(values)
    elif kind.fill == "subnormal":
        values *= 1e-310 if kind.dtype == "float64" else 1e-40
    elif kind.fill in ("nan", "inf") and values.size:
        values.flat[0] = float(kind.fill)
    if not dtype.is_floating_point:
        values = np.nan_to_num(values, posinf=1) * 5
    x = torch.from_numpy(values).to(dtype)
    if kind.layout == "channels_last" and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    elif kind.layout == "expanded":
        x = x[:1].expand(x.shape)
    elif kind.layout == "strided":
        x = torch.stack([x, torch.full_like(x, math.pi)], -1)[..., 0]
    elif kind.layout == "gradient" and (dtype.is_floating_point or dtype.is_complex):
        x.requires_grad_(True)
    elif kind.layout == "inference":
        with torch.inference_mode():
            x = x.clone()
    return x
