import importlib.util
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import onr

SPEC = importlib.util.spec_from_file_location(
    "thousand_outputs", Path(__file__).with_name("thousand_outputs.py")
)
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)
INF_1 = script.PAIRS[3]


def test_norms_of_many_outputs_are_those_of_dense_jacobians():
    """The small form of ``make outputs``; docs/measuring.md has the result of the large one."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.LayerNorm(144), nn.Linear(144, 30)
    head, x = script.Head(nn.Sequential(*layers).eval(), outputs=6), script.images(2, size=8)
    for pair, many, few, exact in script.compare(head, x, script.PAIRS[:3]):
        assert (many.kind, few.kind) == ("exact", "exact")
        assert script.faults(pair, many, exact) == script.faults(pair, few, exact) == []
        assert len(script.faults(pair, few, exact * (1 + 2e-4))) == 2
    few, exact = (
        onr.operator_norm(head, x, p="inf", q=1),
        script.dense(script.rows(head, x), *INF_1),
    )
    assert script.faults(INF_1, few, exact) == []
    assert len(script.faults(INF_1, replace(few, kind="lower"), exact * (1 - 2e-4))) == 2
