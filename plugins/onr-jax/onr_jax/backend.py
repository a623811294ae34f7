"""The JAX backend: builds networks of architectures, and takes functions of JAX arrays."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from onr.architectures import Architecture, initial_parameters, parameters_of
from onr.data import Split
from onr.errors import NotAvailableError, OnrError
from onr.protocols import Array, BackendNetwork, Method
from onr.training.optimizers import Optimizer
from onr.training.protocols import Learner
from onr.training.runs import Run
from onr_jax.admission import admit, check_inputs
from onr_jax.model import Model, adapt
from onr_jax.network import JaxNetwork
from onr_jax.sequential import sequential

__all__ = ["JaxBackend"]


class JaxBackend:
    """Builds networks that are functions of JAX arrays, and takes those of users; trains none.

    Example:
        >>> from onr.architectures import Affine, ReLU
        >>> network = JaxBackend().build(Architecture((3,), (Affine(4), ReLU(), Affine(2))))
        >>> network(jnp.zeros((5, 3))).shape
        (5, 2)

    """

    rank = 0
    """The rank of this process; the JAX backend works in one process."""

    def build(
        self,
        model: Architecture | Any,
        /,
        *,
        seed: int = 0,
        parameters: Mapping[str, np.ndarray] | None = None,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> JaxNetwork:
        """Build a network of an architecture, or of a model that knows its ``input_shape``.

        The dtype ``float64`` sets ``jax_enable_x64`` for the process, without which JAX has no
        float64. The arrays of a model that :func:`onr_jax.adapt` made keep their float type.

        Raises:
            OnrError: the model is neither an architecture nor such a model (or a function that
                returns one), the parameters do not fit it, the device is not there, or the dtype is
                neither float32 nor float64.

        """
        if callable(model) and not isinstance(model, Architecture | Model):
            model = model()
        if dtype not in ("float32", "float64"):
            raise OnrError(f"backend jax computes in float32 or float64, got {dtype}")
        try:
            place = jax.devices(device)[0]
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise OnrError(f"device {device!r} cannot be used: {reason}") from error
        if isinstance(model, Model) and model.input_shape is not None and parameters is None:
            return JaxNetwork(model, model.input_shape, dtype)
        if not isinstance(model, Architecture):
            raise OnrError(
                "backend jax takes an Architecture, or onr_jax.adapt(function, variables, "
                f"input_shape=...) with its own variables; got {type(model).__name__}"
            )
        if dtype == "float64" and jnp.result_type(float) != np.float64:
            jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]  # jax's
        variables = {
            name: jnp.asarray(value, dtype=dtype, device=place)
            for name, value in parameters_of(model, parameters, seed=seed).items()
        }
        return JaxNetwork(_compiled(model).with_variables(variables), model.input_shape, dtype)

    def adopt(self, model: Any, x: Array, /, *, check: bool = True) -> JaxNetwork:
        """Return a function of JAX arrays, or what :func:`onr_jax.adapt` made, as a network.

        A function is compiled anew in every call; what ``adapt`` made is compiled once.

        Raises:
            OnrError: the model cannot be called or fails at ``x``, ``x`` is no batch of floats, or
                with ``check`` the logits of an input depend on other inputs.

        """
        check_inputs(x)
        if isinstance(model, JaxNetwork) and x.shape[1:] != model.input_shape:
            expected = ", ".join(map(str, model.input_shape))
            raise OnrError(f"x has shape {x.shape}: expected (batch, {expected})")
        adapted = model.model if isinstance(model, JaxNetwork) else adapt(model)
        if check:
            admit(adapted, x)
        return JaxNetwork(adapted, x.shape[1:], x.dtype)

    def read_parameters(self, path: Path, /) -> dict[str, np.ndarray]:
        """Read the parameters of a run from its folder."""
        return Run.open(path).model()[0]

    def learner(
        self,
        network: BackendNetwork,
        method: Method,
        train: Split,
        /,
        *,
        optimizer: Optimizer,
        augmentation: str = "none",
    ) -> Learner:
        """Refuse to train.

        Raises:
            NotAvailableError: always.

        """
        raise NotAvailableError(
            "backend jax does not train: train with --backend torch, or in JAX itself"
        )


@lru_cache(maxsize=16)
def _compiled(architecture: Architecture) -> Model:
    """A model of the architecture, of which all networks of it have their programs."""
    return adapt(sequential(architecture), initial_parameters(architecture, seed=0))
