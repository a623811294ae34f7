"""The torch backend: builds modules, moves arrays, trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from onr.architectures import Architecture, initial_parameters
from onr.errors import OnrError
from onr.protocols import Method, Network
from onr_torch.learner import TorchLearner
from onr_torch.linearization import TorchNetwork
from onr_torch.modules import sequential
from onr_torch.tensors import to_tensor

__all__ = ["TorchBackend"]


class TorchBackend:
    """Networks that are ``nn.Module``."""

    def build(
        self,
        model: Architecture | Any,
        /,
        *,
        seed: int = 0,
        parameters: Mapping[str, np.ndarray] | None = None,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> TorchNetwork:
        """A module from an architecture, or a given module with an ``input_shape`` attribute.

        Raises:
            OnrError: the device is not there, or the parameters do not fit the model.

        """
        if callable(model) and not isinstance(model, Architecture | nn.Module):
            with torch.random.fork_rng([]):
                torch.manual_seed(seed)
                model = model()
        if isinstance(model, Architecture):
            module: nn.Module = sequential(model)
            input_shape = model.input_shape
            if parameters is None:
                parameters = initial_parameters(model, seed)
        elif isinstance(model, nn.Module) and hasattr(model, "input_shape"):
            module, input_shape = model, tuple(model.input_shape)  # type: ignore[arg-type]  # nn.Module attributes are untyped
        else:
            raise OnrError(
                f"backend torch takes an Architecture or an nn.Module with an input_shape, "
                f"got {type(model).__name__}"
            )
        module = module.to(getattr(torch, dtype))
        if parameters is not None:
            try:
                missing, unexpected = module.load_state_dict(
                    {name: torch.from_numpy(np.array(v)) for name, v in parameters.items()},
                    strict=False,
                )
            except RuntimeError as error:
                raise OnrError(f"parameters do not fit the model: {error}") from error
            missing = [name for name in missing if not name.endswith("num_batches_tracked")]
            if missing or unexpected:
                raise OnrError(
                    f"parameters do not fit the model: missing {missing}, unexpected {unexpected}"
                )
        try:
            module = module.to(torch.device(device))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise OnrError(f"device {device!r} cannot be used: {reason}") from error
        if len(input_shape) == 3:
            module = module.to(memory_format=torch.channels_last)
        return TorchNetwork(module.eval(), input_shape)

    def asarray(self, x: np.ndarray, network: Network, /) -> torch.Tensor:
        """Inputs in the network's float type on its device; labels as int64."""
        return to_tensor(x, _torch_network(network).module)

    def to_numpy(self, x: torch.Tensor, /) -> np.ndarray:
        """The tensor on the CPU, as an array."""
        return x.detach().cpu().numpy()

    def parameters(self, network: Network, /) -> dict[str, np.ndarray]:
        """Parameters and buffers by name; a copy."""
        state = _torch_network(network).module.state_dict()
        return {name: self.to_numpy(value).copy() for name, value in state.items()}

    def learner(
        self, network: Network, method: Method, /, *, optimizer: str = "adam"
    ) -> TorchLearner:
        """Train that network."""
        return TorchLearner(_torch_network(network), method, optimizer=optimizer)


def _torch_network(network: Network) -> TorchNetwork:
    if not isinstance(network, TorchNetwork):
        raise TypeError(f"expected a TorchNetwork, got {type(network).__name__}")
    return network
