"""A network without a gradient, audited as one whose gradient is zero."""

from __future__ import annotations

import numpy as np

from onr.arrays import array_namespace
from onr.errors import ImageError, OnrError
from onr.protocols import BackendNetwork, Linearization, Norm
from onr.typing import Array

__all__ = ["ZeroedNetwork", "out_of_memory"]


class ZeroedNetwork:
    """The same function as another network, with ``J^T u = 0`` wherever that network has none.

    A network that rounds, takes an argmax or computes without a graph fails when it is linearised,
    or when it is asked for ``J^T u``. To an attack by gradients such a network is one whose
    gradient is zero, and the audit goes on with that. A derivative that is NaN is still an error,
    and so is a lack of memory.

    Example:
        >>> class Steps:
        ...     def __call__(self, x):
        ...         return np.round(x)
        ...     def linearize(self, x, *, jvp=True):
        ...         raise OnrError("no gradient")
        >>> here = ZeroedNetwork(Steps()).linearize(np.array([[0.2, 0.7]]))
        >>> here.value, here.vjp(np.ones((1, 2)))
        (array([[0., 1.]]), array([[0., 0.]]))

    """

    def __init__(self, network: BackendNetwork) -> None:
        self.network = network

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.network.input_shape

    def __call__(self, x: Array, /) -> Array:
        """The logits, ``(batch, d)``."""
        return self.network(x)

    def linearize(self, x: Array, /, *, jvp: bool = True) -> Linearization:
        """The linearisation at ``x``, zero where there is none."""
        try:
            return _Zeroed(x, self.network.linearize(x, jvp=jvp), None)
        except (OnrError, RuntimeError) as error:
            _require_cut(error)
            return _Zeroed(x, None, self.network(x))

    def asarray(self, x: np.ndarray, /) -> Array:
        """Convert to the network's float type on its device."""
        return self.network.asarray(x)

    def parameters(self) -> dict[str, np.ndarray]:
        """A copy of the parameters."""
        return self.network.parameters()

    def frozen(self) -> ZeroedNetwork:
        """The network itself."""
        return self

    def features(self) -> ZeroedNetwork:
        """The network without its last affine layer."""
        return ZeroedNetwork(self.network.features())

    def activation_pattern(self, x: Array, /) -> Array:
        """Which ReLUs are on."""
        return self.network.activation_pattern(x)

    def cell_radius(self, x: Array, /, *, p: Norm) -> Array:
        """The radius of the ReLU cell."""
        return self.network.cell_radius(x, p=p)


class _Zeroed:
    """A linearisation whose ``J^T u`` is zero where the network has none."""

    def __init__(self, x: Array, found: Linearization | None, value: Array) -> None:
        self._x, self._found = x, found
        self.value = value if found is None else found.value
        self.input_shape = tuple(x.shape[1:])
        self.output_shape = tuple(self.value.shape[1:])

    def jvp(self, v: Array, /) -> Array:
        """``J v``."""
        if self._found is None:
            return array_namespace(self.value).zeros_like(self.value)
        return self._found.jvp(v)

    def vjp(self, u: Array, /) -> Array:
        """``J^T u``."""
        if self._found is not None:
            try:
                return self._found.vjp(u)
            except (OnrError, RuntimeError) as error:
                _require_cut(error)
        return array_namespace(self._x).zeros_like(self._x)


def _require_cut(error: OnrError | RuntimeError) -> None:
    """Raise an error again that does not say that the network has no derivative."""
    if isinstance(error, ImageError) or out_of_memory(error):
        raise error


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of any framework says that memory does not suffice.

    Example:
        >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("out of memory"))
        (True, True)

    """
    text = str(error).lower()
    told = "out of memory" in text or "allocate" in text
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and told)
    )
