"""A network whose passes take a few images at a time, and are counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onr.arrays import array_namespace
from onr.auditing.zeroed_network import ZeroedNetwork
from onr.errors import OnrError
from onr.protocols import BackendNetwork, Linearization, Norm
from onr.typing import Array

__all__ = ["ChunkedNetwork"]


class ChunkedNetwork:
    """The same function as another network, computed for at most ``size`` images at a time.

    A result therefore depends on the size by rounding alone: whoever draws random numbers for a
    batch draws them for the whole of it. A linearisation of more images than that computes ``J^T
    u`` and ``J v`` from a new linearisation of each chunk, so that memory is that of one chunk.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> from onr_numpy.backend import NumpyBackend
        >>> network = NumpyBackend().build(Architecture((3,), (Affine(2),)))
        >>> chunked = ChunkedNetwork(network, 2)
        >>> x = np.random.default_rng(0).random((5, 3))
        >>> bool((chunked(x) == network(x)).all()), chunked.passes
        (True, 5)

    """

    def __init__(self, network: BackendNetwork, size: int) -> None:
        self.network, self.size = network, size
        self.passes = 0
        """Passes through the network so far, forward or backward, each counted for each image."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.network.input_shape

    @property
    def bare(self) -> BackendNetwork:
        """The network of the backend, of which no pass is counted."""
        network = self.network
        return network.network if isinstance(network, ZeroedNetwork) else network

    def __call__(self, x: Array, /) -> Array:
        """The logits, ``(batch, d)``."""
        self.passes += len(x)
        return _joined([self.network(part) for part in self.chunks(x)])

    def linearize(self, x: Array, /, *, jvp: bool = True) -> Linearization:
        """The linearisation at ``x``."""
        if len(x) > self.size:
            return _Chunked(self, x, jvp=jvp)
        self.passes += len(x)
        return _Counted(self, self.network.linearize(x, jvp=jvp))

    def chunks(self, *arrays: Array) -> Iterator[Any]:
        """Slices of an array, or tuples of slices of several."""
        for first in range(0, max(1, len(arrays[0])), self.size):
            parts = tuple(array[first : first + self.size] for array in arrays)
            yield parts[0] if len(parts) == 1 else parts

    def asarray(self, x: np.ndarray, /) -> Array:
        """Convert to the network's float type on its device."""
        return self.network.asarray(x)

    def parameters(self) -> dict[str, np.ndarray]:
        """A copy of the parameters."""
        return self.network.parameters()

    def frozen(self) -> ChunkedNetwork:
        """The network itself."""
        return self

    def features(self) -> ChunkedNetwork:
        """The network without its last affine layer."""
        return ChunkedNetwork(self.network.features(), self.size)

    def activation_pattern(self, x: Array, /) -> Array:
        """Which ReLUs are on."""
        return _joined([self.network.activation_pattern(part) for part in self.chunks(x)])

    def cell_radius(self, x: Array, /, *, p: Norm) -> Array:
        """The radius of the ReLU cell."""
        return _joined([self.network.cell_radius(part, p=p) for part in self.chunks(x)])


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else array_namespace(parts[0]).concat(parts)


class _Counted:
    """A linearisation whose products are counted."""

    def __init__(self, network: ChunkedNetwork, found: Linearization) -> None:
        self._network, self._found = network, found
        self.input_shape, self.output_shape = found.input_shape, found.output_shape

    @property
    def value(self) -> Array:
        return self._found.value

    def jvp(self, v: Array, /) -> Array:
        self._network.passes += len(v)
        return self._found.jvp(v)

    def vjp(self, u: Array, /) -> Array:
        self._network.passes += len(u)
        return self._found.vjp(u)


class _Chunked:
    """A linearisation that is made anew, chunk by chunk, for each product."""

    def __init__(self, network: ChunkedNetwork, x: Array, *, jvp: bool) -> None:
        self._network, self._x, self._jvp = network, x, jvp
        self.value = network(x)
        self.input_shape = network.input_shape
        self.output_shape = tuple(self.value.shape[1:])

    def jvp(self, v: Array, /) -> Array:
        if not self._jvp:
            raise OnrError("this linearisation was made with jvp=False, for J^T u alone")
        parts = self._network.chunks(self._x, v)
        return _joined([self._network.linearize(x).jvp(part) for x, part in parts])

    def vjp(self, u: Array, /) -> Array:
        parts = self._network.chunks(self._x, u)
        return _joined([self._network.linearize(x, jvp=False).vjp(part) for x, part in parts])
