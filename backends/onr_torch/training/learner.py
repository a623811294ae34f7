"""The training step in torch, for any method, in one process or in many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from onr.arrays import sent
from onr.data import Split, augment, pixels
from onr.errors import OnrError
from onr.protocols import Array, Cost, Method, Outputs, PenalizingMethod, Probe
from onr.training.optimizers import Optimizer
from onr_torch.admission import admit, check_parameters
from onr_torch.folding import overwriting
from onr_torch.graphs import leaves_of
from onr_torch.modes import evaluating, fixed_buffers, mixed_precision, seeded
from onr_torch.network import TorchNetwork
from onr_torch.outputs import logits
from onr_torch.trainable_jvp import trainable_jvp
from onr_torch.training.distributed import RowsOfGenerator, rank, start, world_size
from onr_torch.training.layer_maps import layer_weights

__all__ = ["TorchLearner"]


class TorchLearner:
    """Stochastic gradient descent on a method's objective.

    The method chooses inputs and directions on the network in evaluation mode. The outputs in the
    objective are computed in training mode, with clean and perturbed inputs in one batch, so that
    batch normalisation uses and records the statistics of both together. ``J v`` uses the running
    statistics with which its direction was found, those before the step, since an example has no
    Jacobian of its own in training mode.

    The images stay on the device in their own dtype and are augmented there. Under ``torchrun``
    each process takes its share of every batch (:mod:`onr_torch.training.distributed`).

    Example:
        >>> from onr.architectures import Affine, Architecture, Flatten
        >>> from onr.registry import load
        >>> from onr_torch.backend import TorchBackend
        >>> network = TorchBackend().build(Architecture((1, 2, 2), (Flatten(), Affine(3))))
        >>> train = Split(np.ones((5, 1, 2, 2)), np.arange(5) % 3)
        >>> method, rng = load("method", "standard")(), np.random.default_rng(0)
        >>> learner = TorchLearner(network, method, train, optimizer=Optimizer())
        >>> first, second = (learner.step(np.arange(5), lr=0.01, rng=rng) for _ in range(2))
        >>> bool(second < first)
        True

    """

    def __init__(
        self,
        network: TorchNetwork,
        method: Method,
        train: Split,
        *,
        optimizer: Optimizer,
        augmentation: str = "none",
    ) -> None:
        self._network = network
        self._method = method
        self._augmentation = augmentation
        self._parameters = dict(network.module.named_parameters())
        if not any(p.requires_grad for p in self._parameters.values()):
            raise OnrError(f"{type(network.module).__name__} has no parameter to train")
        check_parameters(network.module)
        parameter = network.example()
        admit(network.module, parameter, bfloat16=network.bfloat16)
        self._dtype, device = str(parameter.dtype).removeprefix("torch."), parameter.device
        self._images = torch.from_numpy(np.ascontiguousarray(train.images)).to(device)
        self._labels = torch.from_numpy(train.labels.astype(np.int64)).to(device)
        self._optimizer: torch.optim.Optimizer
        if optimizer.name in ("adam", "adamw"):
            kind = torch.optim.Adam if optimizer.name == "adam" else torch.optim.AdamW
            self._optimizer = kind(
                self._parameters.values(), lr=0.0, weight_decay=optimizer.weight_decay
            )
        else:
            self._optimizer = torch.optim.SGD(
                self._parameters.values(),
                lr=0.0,
                momentum=optimizer.momentum,
                nesterov=optimizer.nesterov,
                weight_decay=optimizer.weight_decay,
            )
        self._memory: torch.Tensor | None = None
        self._weight_memory: Mapping[str, Array] = {}
        if isinstance(method, PenalizingMethod):
            zeros = torch.zeros((1, *network.input_shape), dtype=parameter.dtype, device=device)
            self._weights = layer_weights(network.module, zeros)
        self._objective: nn.Module = Objective(network, method)
        start(device)
        if world_size() > 1:
            self._objective = DistributedDataParallel(
                self._objective,
                device_ids=[device] if device.type == "cuda" else None,
                find_unused_parameters=_has_unused_parameters(network),
            )

    @property
    def network(self) -> TorchNetwork:
        """The network with the present parameters and running statistics."""
        return self._network

    def step(
        self,
        examples: np.ndarray,
        /,
        *,
        lr: float,
        rng: np.random.Generator,
        method: Method | None = None,
    ) -> torch.Tensor:
        """Make one update on these training examples; return the mean cost before the update."""
        method = method or self._method
        total = len(examples)
        rows, weight, row_rng = np.arange(total), 1 / total, rng
        if world_size() > 1:
            rows = np.array_split(rows, world_size())[rank()]
            if len(rows) == 0:  # a small last batch; every process must take part in the step
                rows, weight = np.array([0]), 0.0
            row_rng = RowsOfGenerator(rng, rows, total)
        mine = sent(examples[rows], self._images)
        x = pixels(augment(self._images[mine], self._augmentation, row_rng), self._dtype)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        memory = None if self._memory is None else self._memory[mine]
        try:
            paid: Paid = self._objective(x, self._labels[mine], memory, row_rng, method)
        except RuntimeError as error:
            if "finished reduction in the prior iteration" not in str(error):
                raise
            raise OnrError(
                "a step of training left parameters without a gradient in one of the processes, as "
                "when layers are skipped at random: train in one process"
            ) from error
        cost = paid.cost.sum() * weight

        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad(set_to_none=True)
        # DistributedDataParallel averages the gradients of the processes; we want the sum.
        (paid.surrogate * (weight * world_size())).backward()  # type: ignore[no-untyped-call]
        if world_size() > 1:
            distributed.all_reduce(cost)
        if isinstance(method, PenalizingMethod):
            penalty = method.penalty(self._weights, rng=rng, memory=self._weight_memory)
            for name, gradient in penalty.gradients.items():
                grad = self._parameters[name].grad
                assert grad is not None  # noqa: S101 - every output depends on the weight
                grad.add_(gradient)
            self._weight_memory = penalty.memory
            cost = cost + penalty.value
        self._optimizer.step()
        if paid.memory is not None:
            self._remember(examples, rows, mine, paid.memory * (weight > 0))
        return cost

    def _remember(
        self, examples: np.ndarray, rows: np.ndarray, mine: torch.Tensor, kept: torch.Tensor
    ) -> None:
        """Store what the method remembers of these examples, from all processes."""
        if self._memory is None:
            self._memory = kept.new_zeros((len(self._images), *kept.shape[1:]))
        everyone = kept
        if world_size() > 1:
            everyone = kept.new_zeros((len(examples), *kept.shape[1:]))
            everyone[torch.from_numpy(rows).to(kept.device)] = kept
            distributed.all_reduce(everyone)
            mine = sent(examples, kept)
        self._memory[mine] = everyone

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters and buffers by name: those that training changes, no copies."""
        weights: dict[str, torch.Tensor] = self._network.module.state_dict()
        return weights

    @contextmanager
    def holding(self, weights: Mapping[str, torch.Tensor], /) -> Iterator[None]:
        """Give the network these weights inside; afterwards the training has its own back."""
        module = self._network.module
        own = {name: value.clone() for name, value in self.weights().items()}
        try:
            module.load_state_dict(weights)
            yield
        finally:
            module.load_state_dict(own)

    def state(self) -> dict[str, np.ndarray]:
        """A copy of parameters, buffers, the optimiser's state and what the method remembers."""
        tensors = {f"model.{name}": value for name, value in self.weights().items()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{index}.{slot}": torch.as_tensor(value)
                for slot, value in slots.items()
                if value is not None
            }
        if self._memory is not None:
            tensors["memory"] = self._memory
        tensors |= {f"weight_memory.{name}": v for name, v in self._weight_memory.items()}
        return {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}

    def load_state(self, state: Mapping[str, np.ndarray], /) -> None:
        """Continue from a state that :meth:`state` returned."""

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {
                name[len(prefix) :]: torch.from_numpy(np.array(value))
                for name, value in state.items()
                if name.startswith(prefix)
            }

        self._network.module.load_state_dict(part("model."))
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in part("optimizer.").items():
            index, slot = name.split(".")
            slots.setdefault(int(index), {})[slot] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": slots, "param_groups": groups})
        device = self._images.device
        # The learner writes to the memory, so it needs a copy.
        self._memory = torch.tensor(state["memory"]).to(device) if "memory" in state else None
        self._weight_memory = {k: v.to(device) for k, v in part("weight_memory.").items()}


def _has_unused_parameters(network: TorchNetwork) -> bool:
    """Whether the logits do not depend on some trained parameter."""
    module = network.module
    with torch.enable_grad(), evaluating(module):
        used = {id(leaf) for leaf in leaves_of(logits(module, network.example()))}
    return any(p.requires_grad and id(p) not in used for p in module.parameters())


class Paid(NamedTuple):
    """The cost of a batch."""

    surrogate: torch.Tensor
    """A scalar whose gradient in the parameters is that of the sum of the costs."""
    cost: torch.Tensor
    """The cost of each example, shape ``(batch,)``."""
    memory: torch.Tensor | None
    """What the method remembers of each example, if anything."""


class Objective(nn.Module):
    """A method's objective on a batch, as a module that ``DistributedDataParallel`` can wrap."""

    def __init__(self, network: TorchNetwork, method: Method) -> None:
        super().__init__()
        self.module = overwriting(network.module, network.example())
        self._network = network
        self._method = method

    def forward(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        memory: torch.Tensor | None,
        rng: np.random.Generator,
        method: Method | None = None,
    ) -> Paid:
        """Compute the outputs that the method asks for, and its cost."""
        method = method or self._method
        module, bfloat16 = self.module, self._network.bfloat16
        probe = method.perturb(self._network.frozen(), x, y, rng=rng, memory=memory)
        tangent, evaluated = self._in_evaluation_mode(x, probe)
        parts = [x] * probe.clean + list(probe.perturbed)
        outputs: list[torch.Tensor] = []
        if parts:
            module.train()
            # The seed is for dropout. It is drawn after the method's own noise.
            seed = int(rng.integers(2**63)) + rank()
            with seeded(x.device, seed), mixed_precision(x, bfloat16):
                together = logits(module, torch.cat(parts)).to(x.dtype)
                outputs = list(together.tensor_split(len(parts)))
            module.eval()
        clean = outputs.pop(0) if probe.clean else None
        found = Outputs(clean, tuple(outputs), tangent, evaluated)

        cost: Cost = method.objective(_detached(found), y)
        surrogate = sum(
            (output * gradient).sum()
            for output, gradient in zip(_listed(found), _listed(cost.gradients), strict=True)
            if output is not None and gradient is not None
        )
        assert isinstance(surrogate, torch.Tensor)  # noqa: S101 - every method uses some output
        if not surrogate.requires_grad:
            raise OnrError("the cost depends on no parameter that is trained")
        return Paid(surrogate, cost.value.detach(), cost.memory)

    def _in_evaluation_mode(
        self, x: torch.Tensor, probe: Probe
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """``J v`` and ``f(x)``, as far as the method asks for them."""
        module, bfloat16 = self._network.module, self._network.bfloat16
        tangent = evaluated = None
        if probe.direction is not None:
            tangent = trainable_jvp(module, x, probe.direction, bfloat16=bfloat16)
        if probe.evaluated:
            with evaluating(module), fixed_buffers(module), mixed_precision(x, bfloat16):
                evaluated = logits(module, x.clone()).to(x.dtype)  # the module may write into it
        return tangent, evaluated


def _listed(outputs: Outputs) -> list[torch.Tensor | None]:
    return [outputs.clean, outputs.tangent, outputs.evaluated, *outputs.perturbed]


def _detached(outputs: Outputs) -> Outputs:
    clean, tangent, evaluated, *perturbed = (
        None if o is None else o.detach() for o in _listed(outputs)
    )
    return Outputs(clean, tuple(perturbed), tangent, evaluated)
