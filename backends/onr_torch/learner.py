"""One training step in torch, for whatever method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from onr.errors import OnrError
from onr.protocols import Method, Outputs
from onr_torch.linearization import TorchNetwork, trainable_jvp
from onr_torch.tensors import to_tensor

__all__ = ["TorchLearner"]


class TorchLearner:
    """Stochastic gradient descent on a method's objective.

    The method sees the network with frozen statistics. The outputs that it pays for are computed
    in training mode, clean and perturbed inputs in one batch, so that batch normalisation uses and
    records the statistics of both together; ``J v`` is computed with the running statistics, since
    an example has no Jacobian of its own in training mode.
    """

    def __init__(self, network: TorchNetwork, method: Method, *, optimizer: str) -> None:
        self._network = network
        self._method = method
        parameters = list(network.module.parameters())
        if optimizer == "adam":
            self._optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=0.0)
        elif optimizer == "sgd":
            self._optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=0.9)
        else:
            raise OnrError(f"unknown optimizer {optimizer!r}: expected adam or sgd")

    @property
    def network(self) -> TorchNetwork:
        """The network as it stands, with frozen statistics."""
        return self._network

    def step(
        self, x: np.ndarray, y: np.ndarray, /, *, lr: float, rng: np.random.Generator
    ) -> torch.Tensor:
        """One update on a batch; returns the mean cost before it."""
        module = self._network.module
        inputs, labels = to_tensor(x, module), to_tensor(y, module)
        probe = self._method.perturb(self._network, inputs, labels, rng=rng)
        for group in self._optimizer.param_groups:
            group["lr"] = lr

        parts = [
            part for part in (inputs if probe.clean else None, probe.perturbed) if part is not None
        ]
        clean = perturbed = tangent = None
        if parts:
            module.train()
            on_cuda = [inputs.device] if inputs.is_cuda else []
            with torch.random.fork_rng(on_cuda):
                # For dropout; drawn after the method's own noise, which it leaves as it is.
                torch.manual_seed(int(rng.integers(2**63)))
                logits = list(module(torch.cat(parts)).split(len(inputs)))
            module.eval()
            perturbed = logits.pop() if probe.perturbed is not None else None
            clean = logits.pop() if probe.clean else None
        if probe.direction is not None:
            tangent = trainable_jvp(module, inputs, probe.direction)

        outputs = (clean, perturbed, tangent)
        cost = self._method.objective(
            Outputs(*(None if o is None else o.detach() for o in outputs)), labels
        )
        gradients = (cost.gradients.clean, cost.gradients.perturbed, cost.gradients.tangent)
        paid = [
            (output, gradient / len(inputs))
            for output, gradient in zip(outputs, gradients, strict=True)
            if output is not None and gradient is not None
        ]
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([output for output, _ in paid], [g for _, g in paid])
        self._optimizer.step()
        value: torch.Tensor = cost.value.detach().mean()
        return value

    def state(self) -> dict[str, np.ndarray]:
        """Parameters, buffers and the optimiser's moments; a copy."""
        tensors = {f"model.{k}": v for k, v in self._network.module.state_dict().items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{index}.{slot}": torch.as_tensor(value)
                for slot, value in slots.items()
                if value is not None
            }
        return {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}

    def load_state(self, state: Mapping[str, np.ndarray], /) -> None:
        """Continue from such a state."""
        self._network.module.load_state_dict(
            {
                k[len("model.") :]: torch.from_numpy(v)
                for k, v in state.items()
                if k.startswith("model.")
            }
        )
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in state.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = torch.from_numpy(value.copy())
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
