"""Audits that are made up, without a network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onr.auditing.protocols import Flag
from onr.auditing.record import Audit

RADII = {"2/255": 2 / 255, "4/255": 4 / 255, "8/255": 8 / 255, "16/255": 16 / 255}
FLAGS = (
    Flag("ours", True, 0.3, 0.05, "an author", "the loss varies by 30 %", 20),
    Flag("chance", False, 0.6, 0.2, "field", "60 % are correct", 20, comparison="below"),
    Flag("box", None, None, 0.002, "AutoAttack", "pyautoattack is not installed"),
)


def made(
    count: int = 12, *, seed: int = 0, shape: tuple[int, ...] = (3, 4, 4), **changes: Any
) -> Audit:
    """An audit of random numbers; ``changes`` replace columns, or entries of the record."""
    rng = np.random.default_rng(seed)
    images = np.random.default_rng(7)
    label = images.integers(0, 3, count).astype(float)
    right = rng.random(count) < 0.8
    first = np.where(right, rng.gamma(2, 4, count) / 255, 0.0)
    found = first * rng.uniform(0.9, 1.5, count)
    found = np.where(found > RADII["16/255"], np.inf, found)
    norm = rng.gamma(4, 1, count)
    columns: dict[str, np.ndarray] = {
        "image": np.arange(count, dtype=float),
        "failure": np.full(count, ""),
        "label": label,
        "predicted": np.where(right, label, (label + 1) % 3),
        "margin": np.where(right, 1.0, -1.0) * rng.random(count),
        "norm 2:2": norm,
        "norm 2:2 upper": norm,
        "norm 2:2 kind": np.full(count, "exact"),
        "norm inf:2": 30 * norm,
        "norm inf:2 upper": 40 * norm,
        "norm inf:2 kind": np.full(count, "bracket"),
        "sigma 1": norm,
        "first-order radius": first,
        "first-order class": (label + 1) % 3,
        "radius found": found,
        "class found": np.where(np.isinf(found), np.nan, (label + 1) % 3),
        "alignment": rng.random(count),
        "cell radius": np.where(np.arange(count) < 3, 0.001, np.nan),
        "exact radius": np.where(np.arange(count) < 2, first, np.nan),
        "digest": np.array([f"{k:012x}" for k in range(count)]),
    }
    for text, radius in RADII.items():
        columns[f"robust at {text}"] = (right & (found > radius)).astype(float)
        columns[f"rho at {text}"] = 1 - rng.random(count) * radius
    record: dict[str, Any] = {"model": "runs/a", "p": "inf", "eps": "8/255", "radii": RADII}
    record |= {"bounds": [0.0, 1.0], "norms": ["2:2", "inf:2"], "images": count, "of": 100}
    record |= {"seed": None, "fast": False, "cells": 3, "classes": 3, "fingerprint": "f" * 64}
    record |= {"seconds": 2.5, "passes": 60.0 * count}
    pictures = {
        "place": np.flatnonzero(right)[:11],
        "image": rng.random((min(11, int(right.sum())), *shape)).astype(np.float16),
    }
    for name in ("maximiser", "perturbation"):
        pictures[name] = (2 * rng.random(pictures["image"].shape) - 1).astype(np.float16)
    flags = changes.pop("flags", FLAGS)
    for name, value in changes.items():
        if isinstance(value, np.ndarray):
            columns[name] = value
        elif value is None:
            columns.pop(name, None)
        else:
            record[name] = value
    return Audit(record, columns, flags, pictures)


def failed(audit: Audit, *rows: int) -> Audit:
    """The same audit, where these images could not be measured."""
    for name, values in audit.columns.items():
        if name not in ("image", "digest"):
            values[list(rows)] = "" if values.dtype.kind in "US" else math.nan
    texts = audit.columns["failure"].astype("U40")
    texts[list(rows)] = "a logit is nan"
    audit.columns["failure"] = texts
    kept = ~np.isin(audit.pictures["place"], rows)
    for name, values in audit.pictures.items():
        audit.pictures[name] = values[kept]
    return audit
