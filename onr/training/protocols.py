"""What training needs of a backend: networks from a description, and a learner for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """A network in training: what the training loop needs of a backend."""

    @property
    def network(self) -> BackendNetwork:
        """The network as it stands, with frozen statistics."""

    def step(self, examples: np.ndarray, /, *, lr: float, rng: np.random.Generator) -> Array:
        """One update on these examples of the training part, ``(batch,)`` indices.

        Returns the mean cost before it, a scalar array.
        """

    def state(self) -> dict[str, np.ndarray]:
        """All that the next step depends on, by name; parameters are ``model.NAME``; a copy."""

    def load_state(self, state: Mapping[str, np.ndarray], /) -> None:
        """Continue from such a state."""


class Backend(Protocol):
    """Makes networks and teaches them."""

    @property
    def rank(self) -> int:
        """Which of the processes that train one network together this is: only 0 writes."""

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
        """A network with these parameters, or with freshly drawn ones.

        ``dtype`` is ``float32``, ``float64`` or ``bfloat16`` (products in bfloat16, all else in
        float32).

        One seed draws one network on every backend. A model that draws its own parameters is
        given as a function, which is called with the backend's randomness seeded.
        """

    def adopt(self, model: Any, x: Array, /) -> BackendNetwork:
        """The network that a user's own model stands for at inputs like ``x``.

        Called by the front door for arrays of the packages that the backend's entry names
        (:attr:`onr.hookspecs.Entry.arrays`).

        Raises:
            OnrError: the model is none of this backend's, or ``x`` does not fit it; says what was
                expected.

        """

    def read_parameters(self, path: Path, /) -> dict[str, np.ndarray]:
        """A model's parameters by name, from a run's folder or another file that it knows."""

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
        """Train that network with that method on these images."""
