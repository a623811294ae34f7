"""A dense network over exact numbers: the same layers, their products taken over integers."""

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
    """The real function that a network's coefficients define, as the float64 numbers they are.

    Value, linearisation, Jacobian and cells take and give object arrays of exact numbers and never
    round. A normalisation is the multiplication by its float64 factor.

    Args:
        network: the network to take the coefficients of, without loss.
        number: the type of the numbers: ``Fraction``, ``flint.fmpq``, or ``onr.exact.balls.Ball``.

    """

    def __init__(self, network: DenseNetwork, *, number: type = Fraction) -> None:
        parameters = {k: v.astype(np.float64) for k, v in network.weights.items()}
        super().__init__(network.architecture, parameters, fold=False)
        self.number = number

    def features(self) -> ExactNetwork:
        """The network without its last affine layer, exact too."""
        return ExactNetwork(super().features(), number=self.number)

    @cached_property
    def layers(self) -> tuple[DenseLayer, ...]:
        """The layers, their matrices exact."""
        return tuple(self._exact(layer) for layer in super().layers)

    def _exact(self, layer: DenseLayer) -> DenseLayer:
        if not isinstance(layer, Dense):
            return layer
        weight, bias = (exact_array(x, self.number) for x in (layer.weight, layer.bias))
        return (ExactDense if issubclass(self.number, RATIONAL) else Dense)(weight, bias)


class ExactDense(Dense):
    """``W x + b`` over rationals: an integer product, fifty times faster than one of fractions."""

    @cached_property
    def _integers(self) -> tuple[np.ndarray, int]:
        numerators, denominator = _common(self.weight.reshape(-1).tolist())
        return np.array(numerators, dtype=object).reshape(self.weight.shape), denominator

    def forward(self, z: np.ndarray, memory: None) -> np.ndarray:
        """The layer's value."""
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
        """``W G`` of each matrix."""
        batch, units, n = gradient.shape
        columns = gradient.swapaxes(1, 2).reshape(batch * n, units)
        product: np.ndarray = self.jvp(columns, None).reshape(batch, n, -1).swapaxes(1, 2)
        return product

    def _product(self, rows: np.ndarray, matrix: np.ndarray, denominator: int) -> np.ndarray:
        """``rows @ matrix / denominator``; a row may have numbers with one square root."""
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
    """The coefficient of ``sqrt(m)``."""
    if not isinstance(x, Surd):
        return 0
    if x.m != m:
        raise NotExactError("a vector with two different square roots")
    return x.b


def _common(values: Sequence[Rational]) -> tuple[list[int], int]:
    """Numerators over one common denominator."""
    parts = [(int(x.numerator), int(x.denominator)) for x in values]
    common = math.lcm(*{bottom for _, bottom in parts})
    return [top * (common // bottom) for top, bottom in parts], common
