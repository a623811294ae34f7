"""What training needs from a backend: it builds networks from descriptions, and trains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from onr.protocols import BackendNetwork, Method
from onr.typing import Array

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from onr.architectures import Architecture
    from onr.data import Split
    from onr.training.optimizers import Optimizer

__all__ = ["Backend", "Learner"]


class Learner(Protocol):
    """A network in training, as the training loop uses it."""

    @property
    def network(self) -> BackendNetwork:
        """The network with its current parameters and fixed running statistics."""

    def step(
        self,
        examples: np.ndarray,
        /,
        *,
        lr: float,
        rng: np.random.Generator,
        method: Method | None = None,
    ) -> Array:
        """Update the parameters once, on some examples of the training part.

        Args:
            examples: the indices of the examples, ``(batch,)``.
            lr: the learning rate.
            rng: the source of all randomness of the step.
            method: the method of this step alone, that a scheduled method gave; the learner's own
                if not given.

        Returns:
            The mean cost before the update, a scalar array.

        """

    def weights(self) -> Mapping[str, Array]:
        """The present parameters and running statistics by name, on the device of training.

        The arrays may be those that the next step writes to.
        """

    def holding(self, weights: Mapping[str, Array], /) -> AbstractContextManager[None]:
        """Give :attr:`network` these weights inside; afterwards the training has its own back."""

    def state(self) -> dict[str, np.ndarray]:
        """A copy of all arrays that the next step depends on, by name.

        Parameters are named ``model.NAME``.
        """

    def load_state(self, state: Mapping[str, np.ndarray], /) -> None:
        """Continue from a state that :meth:`state` returned."""


class Backend(Protocol):
    """Builds networks and trains them."""

    @property
    def rank(self) -> int:
        """The rank of this process among those that train one network. Only rank 0 writes files."""

    def build(
        self,
        model: Architecture | Callable[[], Any] | Any,
        /,
        *,
        seed: int = 0,
        parameters: Mapping[str, np.ndarray] | None = None,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> BackendNetwork:
        """Build a network with the given parameters, or with freshly drawn ones.

        The same seed draws the same parameters of an :class:`~onr.architectures.Architecture` on
        every backend.

        Args:
            model: an architecture, a model of the backend's own kind, or a function that returns
                either. A function is called after the backend's random generator is seeded, so
                that a model may draw its own parameters.
            seed: determines freshly drawn parameters.
            parameters: the parameters by name.
            dtype: ``float32``, ``float64`` or ``bfloat16`` (products in bfloat16, all else in
                float32).
            device: where to compute, such as ``cpu`` or ``cuda``.

        """

    def adopt(self, model: Any, x: Array, /, *, check: bool = True) -> BackendNetwork:
        """Wrap a user's own model as a network for inputs shaped and typed as ``x``.

        The functions of the package ``onr`` call this method for arrays of the packages that the
        backend's entry names (:attr:`onr.hookspecs.Entry.arrays`). With ``check`` a model that is
        no function of each input, or hides its gradient, is refused; an audit leaves that out and
        raises flags instead.

        Raises:
            OnrError: the backend does not support the model, or ``x`` does not fit the model. The
                message says what was expected.

        """

    def read_parameters(self, path: Path, /) -> dict[str, np.ndarray]:
        """Read parameters by name from a run's folder, or from a file format of the backend."""

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
        """A learner that trains the network with the method on the images of ``train``."""
