"""Dense networks over exact numbers; products of rationals are computed over integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property

import numpy as np

from onr.exact.surds import RATIONAL, NotExactError, Rational, Surd, exact_array
from onr_numpy.layers import Dense, DenseLayer
from onr_numpy.network import DenseNetwork

__all__ = ["ExactNetwork"]


class ExactNetwork(DenseNetwork):
    """A dense network in exact arithmetic: each float64 coefficient is taken as a rational number.

    Value, linearisation, Jacobian and cells take and return object arrays of exact numbers and
    never round. A normalisation multiplies by its float64 factor.

    Args:
        network: the network whose coefficients are used; they are converted without loss.
        number: the type of the numbers: ``Fraction``, ``flint.fmpq``, or ``onr.exact.balls.Ball``.

    Example:
        >>> from onr.architectures import Affine, Architecture
        >>> parameters = {"0.weight": np.array([[0.5, 2.0]]), "0.bias": np.array([0.25])}
        >>> network = DenseNetwork(Architecture((2,), (Affine(1),)), parameters)
        >>> ExactNetwork(network)(exact_array(np.array([[1.0, 3.0]]), Fraction))
        array([[Fraction(27, 4)]], dtype=object)

    """

    def __init__(self, network: DenseNetwork, *, number: type = Fraction) -> None:
        parameters = {k: v.astype(np.float64) for k, v in network.weights.items()}
        super().__init__(network.architecture, parameters, fold=False)
        self.number = number

    def features(self) -> ExactNetwork:
        """The network without its last affine layer, in exact arithmetic too."""
        return ExactNetwork(super().features(), number=self.number)

    @cached_property
    def layers(self) -> tuple[DenseLayer, ...]:
        """The layers, with matrices of exact numbers."""
        return tuple(self._exact(layer) for layer in super().layers)

    def _exact(self, layer: DenseLayer) -> DenseLayer:
        if not isinstance(layer, Dense):
            return layer
        weight, bias = (exact_array(x, self.number) for x in (layer.weight, layer.bias))
        return (ExactDense if issubclass(self.number, RATIONAL) else Dense)(weight, bias)


class ExactDense(Dense):
    """``W x + b`` over rationals, computed over integers: fifty times as fast as fractions."""

    @cached_property
    def _integers(self) -> tuple[np.ndarray, int]:
        numerators, denominator = _common(self.weight.reshape(-1).tolist())
        return np.array(numerators, dtype=object).reshape(self.weight.shape), denominator

    def forward(self, z: np.ndarray, memory: None) -> np.ndarray:
        """``W z + b``."""
        value: np.ndarray = self.jvp(z, memory) + self.bias
        return value

    def jvp(self, v: np.ndarray, memory: None) -> np.ndarray:
        """``W v``."""
        weight, denominator = self._integers
        return self._product(v, weight.T, denominator)

    def vjp(self, u: np.ndarray, memory: None) -> np.ndarray:
        """``W^T u``."""
        weight, denominator = self._integers
        return self._product(u, weight, denominator)

    def after(self, gradient: np.ndarray) -> np.ndarray:
        """``W G`` for each matrix ``G``, shape ``(batch, n, k)``."""
        batch, units, n = gradient.shape
        columns = gradient.swapaxes(1, 2).reshape(batch * n, units)
        product: np.ndarray = self.jvp(columns, None).reshape(batch, n, -1).swapaxes(1, 2)
        return product

    def _product(self, rows: np.ndarray, matrix: np.ndarray, denominator: int) -> np.ndarray:
        """``rows @ matrix / denominator``; the surds in a row must share one square root."""
        rational = type(self.weight.flat[0])
        result = np.empty((len(rows), matrix.shape[1]), dtype=object)
        for index, row in enumerate(rows):
            surds = [x for x in row if isinstance(x, Surd)]
            a, scale = _common([x.a if isinstance(x, Surd) else x for x in row])
            whole = [rational(x, scale * denominator) for x in np.array(a, dtype=object) @ matrix]
            if surds:
                m = surds[0].m
                b, scale = _common([_coefficient(x, m) for x in row])
                image = np.array(b, dtype=object) @ matrix
                rest = [rational(x, scale * denominator) for x in image]
                whole = [Surd(x, y, m) if y != 0 else x for x, y in zip(whole, rest, strict=True)]
            result[index] = whole
        return result


def _coefficient(x: Rational | Surd, m: Rational) -> Rational:
    """The coefficient of ``sqrt(m)`` in ``x``; zero for a rational."""
    if not isinstance(x, Surd):
        return 0
    if x.m != m:
        raise NotExactError("a vector with two different square roots")
    return x.b


def _common(values: Sequence[Rational]) -> tuple[list[int], int]:
    """The numerators over the least common denominator, and that denominator.

    Raises:
        NotExactError: a value is a float.

    """
    if any(isinstance(x, float) for x in values):
        raise NotExactError("a float among exact numbers")
    parts = [(int(x.numerator), int(x.denominator)) for x in values]
    common = math.lcm(*{bottom for _, bottom in parts})
    return [top * (common // bottom) for top, bottom in parts], common
