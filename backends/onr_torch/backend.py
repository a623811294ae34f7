"""The torch backend: builds modules, accepts the user's modules, reads weights, trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from onr.architectures import Architecture, initial_parameters
from onr.data import Split
from onr.errors import OnrError
from onr.protocols import BackendNetwork, Method
from onr.training.optimizers import Optimizer
from onr_torch.admission import admit, check_inputs, check_parameters
from onr_torch.models.sequential import sequential
from onr_torch.models.weights import read_weights
from onr_torch.modes import converter, require_evaluation, seeded
from onr_torch.network import TorchNetwork
from onr_torch.training.distributed import device_of_process, rank
from onr_torch.training.learner import TorchLearner

__all__ = ["TorchBackend"]


class TorchBackend:
    """Builds and trains networks that are an ``nn.Module``.

    Example:
        >>> from onr.architectures import Affine, ReLU
        >>> network = TorchBackend().build(Architecture((3,), (Affine(4), ReLU(), Affine(2))))
        >>> network(torch.zeros(5, 3)).shape
        torch.Size([5, 2])

    """

    @property
    def rank(self) -> int:
        """The rank of this process among those that ``torchrun`` started, from 0."""
        return rank()

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
        """Build a network from an architecture, or from a module with an ``input_shape`` attribute.

        A function is called without arguments, under ``seed``, to make the model. With dtype
        ``bfloat16`` the weights are float32, and convolutions and matrix products work in bfloat16.
        The device ``cuda`` means the GPU of this process.

        Raises:
            OnrError: the model is neither an architecture nor such a module, the device cannot be
                used, or the parameters do not fit the model.

        """
        if callable(model) and not isinstance(model, Architecture | nn.Module):
            with seeded(torch.device("cpu"), seed):
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
        check_parameters(module)
        bfloat16 = dtype == "bfloat16"
        precision = torch.float32 if bfloat16 else getattr(torch, dtype)
        module = module._apply(converter(precision))  # type: ignore[no-untyped-call]  # torch's
        if parameters is not None:
            _load(module, parameters)
        try:
            module = module.to(torch.device(device_of_process(device)))
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise OnrError(f"device {device!r} cannot be used: {reason}") from error
        if len(input_shape) == 3:
            module = module._apply(_channels_last)  # type: ignore[no-untyped-call]  # torch's
        return TorchNetwork(module.eval(), input_shape, bfloat16=bfloat16)

    def adopt(self, model: Any, x: torch.Tensor, /, *, check: bool = True) -> TorchNetwork:
        """Return the user's module, or a network, as a network for inputs like ``x``.

        Without ``check``, :mod:`onr_torch.admission` is left out, now and in later calls.

        Raises:
            OnrError: the model is neither a module nor a network, a batch normalisation or dropout
                layer is in training mode, the inputs of a network have another shape, or
                :mod:`onr_torch.admission` refuses the module or the inputs.

        """
        module = model.module if isinstance(model, TorchNetwork) else model
        if not isinstance(module, nn.Module):
            raise OnrError(
                f"the model is a {type(model).__name__}: expected a torch.nn.Module, whose mode "
                "and parameters are known; put a function into the forward of a module"
            )
        check_inputs(module, x)
        if len(x) == 0:
            raise OnrError(f"x has shape {tuple(x.shape)}: expected at least one input")
        if not isinstance(model, TorchNetwork):
            require_evaluation(module)
            model = TorchNetwork(module, tuple(x.shape[1:]), check=check)
        elif not check:
            model = TorchNetwork(module, model.input_shape, bfloat16=model.bfloat16, check=False)
        if tuple(x.shape[1:]) != model.input_shape:
            raise OnrError(
                f"x has shape {tuple(x.shape)}: expected (batch, "
                f"{', '.join(map(str, model.input_shape))})"
            )
        network: TorchNetwork = model
        if not check:
            return network
        admit(network.module, x, bfloat16=network.bfloat16)
        return network

    def read_parameters(self, path: Path, /) -> dict[str, np.ndarray]:
        """Read weights from the folder of a run, a safetensors file or a saved state dict."""
        return read_weights(path)

    def learner(
        self,
        network: BackendNetwork,
        method: Method,
        train: Split,
        /,
        *,
        optimizer: Optimizer,
        augmentation: str = "none",
    ) -> TorchLearner:
        """Return a learner that trains ``network`` on ``train``, whose images move to its device.

        Raises:
            TypeError: the network is not a :class:`TorchNetwork`.

        """
        return TorchLearner(
            _torch_network(network), method, train, optimizer=optimizer, augmentation=augmentation
        )


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _load(module: nn.Module, parameters: Mapping[str, np.ndarray]) -> None:
    """Set parameters and buffers by name; the names may lack or add the prefix of a wrapper."""
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = _renamed(parameters, own)
    tracked = ".num_batches_tracked"
    faults = {
        "missing": [name for name in own if name not in given and not name.endswith(tracked)],
        "unexpected": [name for name in given if name not in own],
        "of another shape": [
            f"{name}: {np.shape(value)} for {own[name]}"
            for name, value in given.items()
            if name in own and np.shape(value) != own[name]
        ],
    }
    if any(faults.values()):
        told = ", ".join(f"{fault} {_some(names)}" for fault, names in faults.items() if names)
        raise OnrError(f"parameters do not fit the model: {told}")
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in given.items()}
    module.load_state_dict(tensors, strict=False)


def _renamed(
    parameters: Mapping[str, np.ndarray], own: Mapping[str, Any]
) -> Mapping[str, np.ndarray]:
    """Add or remove the prefix of a wrapper in all names, if no name fits unchanged.

    A wrapper is a module with all its parameters in one submodule.
    """
    outer, inner = _wrapper(own), _wrapper(parameters)
    forms = (
        parameters,
        {outer + name: value for name, value in parameters.items()},
        {name.removeprefix(inner): value for name, value in parameters.items()},
    )
    return next((form for form in forms if form.keys() & own.keys()), parameters)


def _wrapper(names: Mapping[str, Any]) -> str:
    """The prefix, up to the first dot, that all names share; empty if there is none."""
    found = {name[: name.find(".") + 1] for name in names}
    return found.pop() if len(found) == 1 else ""


def _some(names: list[str], count: int = 3) -> str:
    rest = len(names) - count
    return f"{names[:count]}" + (f" and {rest} more" if rest > 0 else "")


def _torch_network(network: BackendNetwork) -> TorchNetwork:
    if not isinstance(network, TorchNetwork):
        raise TypeError(f"expected a TorchNetwork, got {type(network).__name__}")
    return network
