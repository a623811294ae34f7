"""An audit: sensitivity, attack and checks at each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onr.auditing.audit import AuditSettings, run_audit
from onr.auditing.record import RECORD, Audit
from onr.auditing.threat import Threat
from onr.files import require_writable
from onr.front_door.arguments import radius, warn_of, whole_numbers
from onr.front_door.models import FIRST, audited
from onr.measurements.loaders import labelled, taken
from onr.numerals import written
from onr.protocols import NormLike
from onr.text import norm, pair
from onr.training.factories import versions
from onr.typing import Array

__all__ = ["audit"]


def audit(
    model: Any,
    x: Any,
    y: Array | None = None,
    /,
    *,
    p: NormLike,
    eps: float | str,
    norms: str | Sequence[str] = "2:2",
    images: int | None = None,
    seed: int | None = None,
    fast: bool = False,
    checks: Sequence[str] | None = None,
    batch_size: int | None = None,
    out: str | Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Audit:
    """How sensitive a model is, what an attack achieves, and whether to believe it.

    Args:
        model: a network, a ``torch.nn.Module`` in evaluation mode, or a plugin's model. What the
            other functions refuse, such as a model that draws noise, is audited as it is, and
            raises flags.
        x: images with pixels in [0, 1], ``(N, *input_shape)``; or a data set or loader, which has
            the labels.
        y: their labels, ``(N,)``.
        p: the norm of the perturbations.
        eps: their radius; a quarter, half and twice of it are looked at too.
        norms: the operator norms, ``"2:2,inf:1"`` or a list of such pairs P:Q; the first gives the
            maximisers of the pictures.
        images: how many images; 1,000 if not given (100 if fast), or all if there are fewer.
        seed: draws the images and the starts of attacks; the first images if not given.
        fast: fewer images, and a fifth of them for the checks.
        checks: the names of checks; all that are installed if not given.
        batch_size: how many images pass the network at once; chosen by memory if not given.
        out: a folder to save the audit in. Finished blocks of images are kept there, and the same
            audit goes on from them.
        on_progress: called with the number of images that are done, and of all.

    Raises:
        OnrError: the model does not fit ``x``, or no image can be measured.

    Example:
        >>> import onr, torch
        >>> model, x = torch.nn.Linear(4, 3), torch.rand(5, 4)
        >>> found = onr.audit(model, x, model(x).argmax(1), p=2, eps="0.1", checks=())
        >>> [row["eps"] for row in found.curve]
        ['0', '0.025', '0.05', '0.1', '0.2']

    """
    inputs, y = labelled(model, x, y)
    network, refused = audited(model, inputs[:FIRST])
    inputs = taken(network, inputs)
    warn_of(norm(p), radius(eps))
    settings = AuditSettings(
        Threat(norm(p), eps if isinstance(eps, str) else written(float(eps))),
        tuple(map(pair, norms.split(",") if isinstance(norms, str) else norms)),
        images=images,
        seed=seed,
        fast=fast,
        checks=None if checks is None else tuple(checks),
        batch_size=batch_size,
    )
    folder = None if out is None else Path(out)
    if folder is not None:
        require_writable(folder, RECORD)
    found = run_audit(
        network,
        inputs,
        whole_numbers(y, len(inputs)),
        settings,
        refused=refused,
        subject={"model": type(model).__name__, "versions": versions()},
        out=folder,
        on_block=lambda done, total, _: on_progress(done, total),
    )
    assert found is not None  # noqa: S101 - for the type checker; it is one shard of one
    if folder is not None:
        found.save(folder)
    return found
