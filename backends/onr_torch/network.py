"""A module as a network: its value, its linearisation, and what measurements need of it."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import torch
from torch import nn

from onr.arrays import to_numpy
from onr.protocols import Norm
from onr_torch.admission import admit, record_of, share_record
from onr_torch.cell_radius import cell_radius
from onr_torch.features import without_last_layer
from onr_torch.linearization import TorchLinearization
from onr_torch.modes import bare, constant_parameters, evaluating, mixed_precision
from onr_torch.outputs import tensor_of
from onr_torch.patterns import activation_pattern
from onr_torch.twins import twin_of

__all__ = ["TorchNetwork"]


class TorchNetwork:
    """A module as a network: every call and linearisation runs in evaluation mode.

    The module is checked once for inputs of a kind (:mod:`onr_torch.admission`), when it is first
    called or linearised at them.

    Args:
        module: the module; it is not copied, and training it changes the network. Of a
            ``DataParallel`` or ``DistributedDataParallel`` the module inside is taken.
        input_shape: the shape of one input.
        bfloat16: whether convolutions and matrix products work in bfloat16; values, directions and
            gradients have the dtype of the inputs in either case.
        check: whether the module is checked; without, it runs as it is, never as a twin.

    Example:
        >>> network = TorchNetwork(nn.Sequential(nn.ReLU(), nn.Dropout()), (2,))
        >>> network(torch.tensor([[3.0, -4.0]]))
        tensor([[3., 0.]])
        >>> network.linearize(torch.tensor([[3.0, -4.0]])).jvp(torch.ones(1, 2))
        tensor([[1., 0.]])

    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, ...],
        *,
        bfloat16: bool = False,
        check: bool = True,
    ) -> None:
        self.module = bare(module)
        """The module, whose parameters and parts are those of the network."""
        self.passes = self.module
        """The module that passes run on: of a frozen network a twin with fewer layers."""
        self.bfloat16 = bfloat16
        self._check = check
        self._input_shape = input_shape
        self._is_frozen = False
        self._admitted: set[tuple[Any, ...]] = set()  # kinds of inputs of a frozen network
        self.copies_inputs = True
        """Whether passes get a copy, because the module may write into its inputs."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self._input_shape

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """The logits, shape ``(batch, d)``, without a graph.

        Raises:
            OnrError: :func:`onr_torch.admission.admit` refuses the module.

        """
        self._admit(x)
        with torch.no_grad(), constant_parameters(self.passes), mixed_precision(x, self.bfloat16):
            given = x.clone() if self.copies_inputs else x
            return tensor_of(self.passes(given), self.passes).to(x.dtype).detach()

    def linearize(self, x: torch.Tensor, /, *, jvp: bool = True) -> TorchLinearization:
        """The linearisation at ``x``, shape ``(batch, *input_shape)``.

        With ``jvp=False`` nothing is recorded for ``J v``, which then raises. The passes are those
        of a twin with fewer layers (:func:`onr_torch.twins.twin_of`), unless hooks see the calls of
        the module. It has the weights that the module has now, however they were set.

        Raises:
            OnrError: :func:`onr_torch.admission.admit` refuses the module.

        """
        self._admit(x, gradients=True)
        module = self.passes if self._is_frozen else self._twin(chains=False)
        return TorchLinearization(module, x, bfloat16=self.bfloat16, jvp=jvp)

    def _admit(self, x: torch.Tensor, *, gradients: bool = False) -> None:
        """Check the module at inputs of this kind; a frozen one, which stays the same, once."""
        kind = (gradients, tuple(x.shape[1:]), x.dtype, x.device)
        if self._check and kind not in self._admitted:
            record = admit(self.module, x, gradients=gradients, bfloat16=self.bfloat16)
            self.copies_inputs = record.trusted or record.writes_inputs
            if self._is_frozen:
                self._admitted.add(kind)

    def _twin(self, *, chains: bool) -> nn.Module:
        """The module, or a cheaper one of the same function at the present weights."""
        # A module that keeps tensors of a call is not replaced: in a twin nobody could read them.
        if not self._check or record_of(self.module).keeps_tensors:
            return self.module
        parameter = self._parameter()
        kind = (self._input_shape, parameter.dtype, parameter.device)
        with torch.inference_mode(False):
            twin = twin_of(self.module, self.example, kind, chains=chains)
        if twin is not self.module:
            share_record(self.module, twin)
        return twin

    def calls_autograd(self, x: torch.Tensor, /) -> bool:
        """Whether a forward pass at ``x`` computes gradients itself, by torch's autograd.

        Calls inside compiled code are not seen.
        """
        entries = {torch.autograd.grad.__code__, torch.autograd.backward.__code__}
        seen = False

        def watch(frame: Any, event: str, _: Any) -> None:
            nonlocal seen
            seen = seen or (event == "call" and frame.f_code in entries)

        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            self(x)
        finally:
            sys.setprofile(before)
        return seen

    def asarray(self, x: np.ndarray, /) -> torch.Tensor:
        """Inputs as a tensor of the module's dtype on its device; integers (labels) become int64.

        Images are laid out channels last. For a module without parameters and buffers the inputs
        become float32 on the CPU.
        """
        parameter = self._parameter()
        tensor = torch.from_numpy(np.ascontiguousarray(x)).to(parameter.device)
        if not tensor.is_floating_point():
            return tensor.to(torch.int64)
        tensor = tensor.to(parameter.dtype)
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    def parameters(self) -> dict[str, np.ndarray]:
        """A copy of the parameters and buffers, by name."""
        state = self.module.state_dict()
        return {name: to_numpy(value).copy() for name, value in state.items()}

    def frozen(self) -> TorchNetwork:
        """A network of the same function for many passes, folded where that makes them cheaper.

        Training the module afterwards may or may not change the result.
        """
        if self._is_frozen:
            return self
        network = self._with(self.module)
        network.passes, network._is_frozen = self._twin(chains=True), True
        return network

    def features(self) -> TorchNetwork:
        """The network without its last affine layer, ``phi^(L-1)``; outputs ``(batch, features)``.

        Raises:
            OnrError: the last operation of the module is not an ``nn.Linear``.

        """
        found = self._with(without_last_layer(self.module, self.example()))
        return found.frozen() if self._is_frozen else found

    def _with(self, module: nn.Module) -> TorchNetwork:
        return TorchNetwork(module, self._input_shape, bfloat16=self.bfloat16, check=self._check)

    def example(self) -> torch.Tensor:
        """Two random inputs in [0, 1], the same in every call, to try the module on."""
        parameter = self._parameter()
        rng = None if parameter.is_meta else torch.Generator(parameter.device).manual_seed(0)
        shape = (2, *self._input_shape)
        return torch.rand(shape, generator=rng, dtype=parameter.dtype, device=parameter.device)

    def _parameter(self) -> torch.Tensor:
        """A real parameter or buffer, or else an empty tensor of float32 on the CPU."""
        tensors = itertools.chain(self.module.parameters(), self.module.buffers())
        return next((x for x in tensors if x.is_floating_point()), torch.empty(0))

    def activation_pattern(self, x: torch.Tensor, /) -> torch.Tensor:
        """Which ReLUs are on, shape ``(batch, units)``, bool.

        :func:`onr_torch.patterns.activation_pattern` describes the pattern and what is raised.
        """
        return activation_pattern(self.module, x)

    def cell_radius(self, x: torch.Tensor, /, *, p: Norm) -> torch.Tensor:
        """The radius of the ReLU cell around each input in the lp norm ``p``, exact; ``(batch,)``.

        The cost is ``n`` jvps for each example. :mod:`onr_torch.cell_radius` describes the radius
        and which modules are refused.
        """
        with evaluating(self.module):
            return cell_radius(self.module, x, p=p)
