"""A model's jaxpr, evaluated equation by equation, with what each value depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend import core

from onr_jax.programs import Arrays, Call

__all__ = ["Node", "Rule", "evaluate"]

CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2"}
"""Equations that call a jaxpr and change nothing else."""
CUSTOM = {"custom_jvp_call", "custom_vjp_call"}
"""Equations that call a jaxpr whose derivative is another than its own."""
MOVES = {"broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "transpose", "copy"}
"""Equations that give the entries that they are given, some perhaps several times."""


@dataclass(frozen=True, eq=False)
class Node:
    """A value in the evaluation of a model."""

    value: Any
    depends: bool = False
    """Whether it depends on the inputs of the model."""
    zero: bool = False
    """Whether it is known to be zero, as the 0 of ``max(z, 0)``."""
    primitive: str = ""
    """The equation that gave it."""
    given: tuple[Node, ...] = ()
    """What that equation was given."""


Rule = Callable[[str, dict[str, Any], Sequence[Node]], Any]
"""Called with the primitive, its parameters and what it is given; gives the value or ``None``."""


def evaluate(
    call: Call,
    arrays: Arrays,
    x: jax.Array,
    /,
    *,
    rule: Rule | None = None,
    opaque: frozenset[str] = frozenset(),
) -> Node:
    """Evaluate a model at a batch, and return its logits as a node.

    Args:
        call: the model.
        arrays: the arrays that it depends on.
        x: the batch.
        rule: gives other values than those of some equations that depend on the inputs. Functions
            that have a derivative of their own are then evaluated inside, too.
        opaque: the names of functions that are not.

    Example:
        >>> from jax import numpy as jnp
        >>> node = evaluate(lambda arrays, x: jax.nn.relu(x), [], jnp.ones((1, 2)))
        >>> node.depends, node.primitive
        (True, 'custom_jvp_call')

    """
    closed = jax.make_jaxpr(partial(call, arrays))(x)
    inputs = [Node(x, depends=True)]
    (found,) = _Evaluation(rule, opaque).run(closed.jaxpr, closed.consts, inputs)
    return found


class _Evaluation:
    def __init__(self, rule: Rule | None, opaque: frozenset[str]) -> None:
        self.rule, self.opaque = rule, opaque

    def run(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Node]) -> list[Node]:
        """The nodes of a jaxpr's outputs."""
        known: dict[Any, Node] = dict(zip(jaxpr.constvars, map(Node, consts), strict=True))
        known |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Node:
            if isinstance(atom, core.Literal):
                return Node(atom.val, zero=not np.any(atom.val))
            return known[atom]

        for equation in jaxpr.eqns:
            given = tuple(map(read, equation.invars))
            known |= dict(zip(equation.outvars, self._results(jaxpr, equation, given), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _results(self, jaxpr: Any, equation: Any, given: tuple[Node, ...]) -> list[Node]:
        name, params = equation.primitive.name, equation.params
        inner = params.get("jaxpr", params.get("call_jaxpr"))
        if inner is not None and self._enters(name, params):
            return self.run(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given)
        depends = any(node.depends for node in given)
        if depends and self.rule is not None:
            value = self.rule(name, params, given)
            if value is not None:
                return [Node(value, depends, primitive=name, given=given)]
        zero = name in MOVES and given[0].zero
        values = _evaluated(jaxpr, equation, given)
        return [Node(value, depends, zero, name, given) for value in values]

    def _enters(self, name: str, params: dict[str, Any]) -> bool:
        if params.get("name") in self.opaque:
            return False
        return name in CALLS or (name in CUSTOM and self.rule is not None)


def _evaluated(jaxpr: Any, equation: Any, given: tuple[Node, ...]) -> list[Any]:
    """The values of one equation, as a jaxpr of its own, so that JAX itself evaluates it."""
    inputs = {
        atom: node.value
        for atom, node in zip(equation.invars, given, strict=True)
        if not isinstance(atom, core.Literal)
    }
    alone = jaxpr.replace(
        constvars=[],
        invars=list(inputs),
        outvars=equation.outvars,
        eqns=[equation],
    )
    found: list[Any] = core.jaxpr_as_fun(core.ClosedJaxpr(alone, []))(*inputs.values())
    return found
