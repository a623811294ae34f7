"""The operator-norm view of adversarial robustness.

The front door
--------------
Every name below works with NumPy networks, with any ``torch.nn.Module``, and with the models of a
plugin's backend; each is imported when it is first used.

========================  ====================================================================
``linearize``             ``f(x + dx) ~ value + J dx``: ``.value``, ``.jvp(v)``, ``.vjp(u)``
``operator_norm``         ``||J||_{p,q}``, with both bounds, the maximiser and how it was found
``singular_triplets``     the leading singular values and vectors of ``J``, from products alone
``singular_values``       all singular values of ``J``
``jacobian``              ``J`` as a matrix for each input
``linear_operator``       ``J`` at one input as a ``scipy.sparse.linalg.LinearOperator``
``cell_radius``           how far the network is exactly linear around ``x``
``attack``                perturbed inputs, by any registered attack
``audit``                 sensitivity, attack and checks at each image, on one page
``measure``               accuracy, norms, spectrum, alignment, linearity, activations, directions
``norm``, ``LpNorm``      norms by name, number or exponent
``CrossEntropy``,         what attacks ascend
``LogitDistance``,
``Margin``
``TrainConfig``,          training runs, and their models to measure
``train``, ``open_run``
``OnrError``              what is raised when a request cannot be met
========================  ====================================================================

``p`` and ``q`` are text (``"inf"``), numbers or norms, ``eps`` is a number or a fraction as text
(``"8/255"``), ``rng`` is a NumPy generator, a whole number (a seed) or nothing (seed 0).

Notation, used by every module of the project
---------------------------------------------
==========  ==================================================================================
``x``       inputs, shape ``(batch, *input_shape)``; images are ``(batch, C, H, W)``, pixels in
            [0, 1]; ``n`` is the number of coordinates of one input
``f``       the network's logits, ``f(x)`` of shape ``(batch, d)``; ``d`` is the number of classes
``y``       labels, shape ``(batch,)``, integers in ``[0, d)``
``J``       the Jacobian of ``f`` at ``x``, one ``d x n`` matrix an example (Eq. 2)
``v``       an input-space direction, shaped as ``x``; ``J v`` is a *jvp* (the forward pass)
``u``       a logit-space direction, shaped as ``f(x)``; ``J^T u`` is a *vjp* (the backward pass)
``p``       the norm of the domain (inputs); ``p*`` is its dual
``q``       the norm of the co-domain (logits); both are always passed by keyword
``eps``     the radius of the p-ball that an attack may use, in the units of ``x``
``alpha``   the step size of an iteration; ``inf`` is the power-method limit
``delta``   a perturbation, ``x* - x``
==========  ==================================================================================

The leading axis of every array is the batch and every result is per example: nothing is ever
averaged or compared across a batch. Equations, lemmas and sections are those of Roth, Kilcher and
Hofmann, "Adversarial Training is a Form of Data-dependent Operator Norm Regularization",
NeurIPS 2020.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from onr.version import __version__ as __version__

if TYPE_CHECKING:
    from onr import measure
    from onr.errors import OnrError
    from onr.front_door.attack import attack
    from onr.front_door.audit import audit
    from onr.front_door.jacobians import (
        cell_radius,
        jacobian,
        linear_operator,
        linearize,
        operator_norm,
        singular_triplets,
        singular_values,
    )
    from onr.front_door.train import train
    from onr.losses import CrossEntropy, LogitDistance, Margin
    from onr.norms import LpNorm
    from onr.text import norm
    from onr.training.config import TrainConfig
    from onr.training.subject import open_run

__all__ = [
    "CrossEntropy",
    "LogitDistance",
    "LpNorm",
    "Margin",
    "OnrError",
    "TrainConfig",
    "attack",
    "audit",
    "cell_radius",
    "jacobian",
    "linear_operator",
    "linearize",
    "measure",
    "norm",
    "open_run",
    "operator_norm",
    "singular_triplets",
    "singular_values",
    "train",
]

_HOMES = {
    "CrossEntropy": "onr.losses",
    "LogitDistance": "onr.losses",
    "LpNorm": "onr.norms",
    "Margin": "onr.losses",
    "OnrError": "onr.errors",
    "TrainConfig": "onr.training.config",
    "attack": "onr.front_door.attack",
    "audit": "onr.front_door.audit",
    "cell_radius": "onr.front_door.jacobians",
    "jacobian": "onr.front_door.jacobians",
    "linear_operator": "onr.front_door.jacobians",
    "linearize": "onr.front_door.jacobians",
    "norm": "onr.text",
    "open_run": "onr.training.subject",
    "operator_norm": "onr.front_door.jacobians",
    "singular_triplets": "onr.front_door.jacobians",
    "singular_values": "onr.front_door.jacobians",
    "train": "onr.front_door.train",
}
"""The module of each public name but ``measure``, which is a module itself."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'onr' has no attribute {name!r}")
    if name == "measure":
        return importlib.import_module("onr.measure")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
