"""`minigan bench conv`: the operations that are measured, and the report. No time is asserted."""

import io
import json
import math
import sys

import numpy as np
import pytest
from helpers import assert_close

from minigan import bench
from minigan.bench import conv, lower_bound
from minigan.bench.peers import load
from minigan.bench.plan import CONVOLUTIONS, Convolution, Plan
from minigan.engine.op import Op

SMALL = (Convolution(2, 3, 5, 6, 4, 2, 1), Convolution(3, 1, 4, 7, 3, 1, 1))
TINY = Plan(convolutions=SMALL, conv_seconds=0, rest_seconds=0)
NO_TORCH = "PyTorch is not installed: nothing is measured beside it"


def run():
    output = io.StringIO()
    result = bench.run(["conv"], repeats=2, output=output, plan=TINY, threads=1)
    assert json.loads(json.dumps(result)) == result
    return result["conv"], output.getvalue()


# --------------------------------------------------------------------------------------- whole runs
def test_each_operation_of_each_convolution_is_measured(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch raises ImportError
    cases, text = run()
    labels = ["3-5 4x4/2, 6x6", "1-4 3x3/1, 7x7"]
    measured = [(case["layer"], case["batch"], case["operation"]) for case in cases]
    layers = list(zip(labels, (2, 3), strict=True))
    assert measured == [(*layer, operation) for layer in layers for operation in OPERATIONS]
    for case in cases:
        assert list(case["seconds"]) == ["minigan"]
        assert len(case["seconds"]["minigan"]) == 2
    assert text[text.index("conv:") :].count("not installed") == 6
    assert "geometric mean" not in text


def test_pytorch_is_measured_in_two_memory_orders():
    pytest.importorskip("torch", reason=NO_TORCH)
    cases, text = run()
    assert all(list(case["seconds"]) == ["minigan", *conv.PEERS] for case in cases)
    assert text.count("geometric mean") == 3


# -------------------------------------------------------------------------------------- operations
OPERATIONS = ("forward", "input gradient", "weight gradient")
OPS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


def reference_ops(convolution):
    """Return the result of each operation from the references of the ops."""
    x, w, g = conv.operands(convolution)
    geometry = {"stride": [convolution.stride] * 2, "padding": [convolution.padding] * 2}
    size, kernel = {"size": x.shape[2:]}, {"kernel": w.shape[2:]}
    arguments = zip(OPS, ((x, w), (g, w), (x, g)), ({}, size, kernel), strict=True)
    return [
        Op.registry[name].reference(*arrays, **geometry, **options)
        for name, arrays, options in arguments
    ]


@pytest.mark.parametrize("convolution", SMALL)
def test_every_contender_computes_the_operations(convolution, monkeypatch):
    pytest.importorskip("torch", reason=NO_TORCH)
    monkeypatch.setattr(lower_bound, "fma_rate", lambda threads: 1.0)
    plan = Plan(convolutions=(convolution,))
    (group,) = conv.groups(plan, {conv.MODULE: load(conv.MODULE)}, 1)
    expected = reference_ops(convolution)
    assert list(group.calls) == ["minigan", *conv.PEERS]
    for calls in group.calls.values():
        for call, result in zip(calls, expected, strict=True):
            assert_close(np.asarray(call()), result, 1e-4)


def test_pytorchs_arrays_have_the_named_memory_order():
    pytest.importorskip("torch", reason=NO_TORCH)
    x, w, g = conv.operands(SMALL[1])  # of one channel
    calls = load(conv.MODULE).calls(x, w, g, 1, 1)
    strides = {name: operations[0].args[0].stride() for name, operations in calls.items()}
    assert strides == {"PyTorch": (49, 49, 7, 1), "PyTorch, NHWC": (49, 1, 7, 1)}


@pytest.mark.parametrize("convolution", [*SMALL, *CONVOLUTIONS[:1]])
def test_multiply_adds_are_those_of_the_equivalent_product(convolution):
    _, w, g = conv.operands(convolution)
    assert conv.multiply_adds(convolution) == g.size * math.prod(w.shape[1:])
    if convolution in SMALL:
        assert reference_ops(convolution)[0].shape == g.shape


# ------------------------------------------------------------------------------------------ report
def test_report():
    def case(operation, own, *peers):
        times = zip(("minigan", *conv.PEERS), (own, *peers), strict=False)
        seconds = {name: [x] * 3 for name, x in times}
        work = {"flops": 10**7, "flops_per_second": 4e10}
        return {
            "layer": "1-2 3x3/1, 4x4",
            "batch": 7,
            "operation": operation,
            **work,
            "seconds": seconds,
        }

    cases = [
        case("forward", 1e-3, 2e-3, 4e-3),
        case("input gradient", 1e-3, 2e-3, 5e-4),
        case("weight gradient", 5e-4),
        case("forward", 1e-3, 8e-3, 9e-3),
    ]
    lines = conv.report(cases).splitlines()
    rows = [" ".join(line.split()) for line in lines]
    start = "1-2 3x3/1, 4x4 7 forward 10.0 25%"
    assert f"{start} 5.00 2.50 2.00 2.00..2.00" in rows
    assert "input gradient 10.0 25% 5.00 20.0 0.500 0.500..0.500" in rows
    assert "weight gradient 20.0 50% not installed" in rows
    assert f"{start} 1.25 1.11 8.00 8.00..8.00" in rows
    layer = "(1-2 3x3/1, 4x4, batch 7)"
    assert lines[-2:] == [
        f"forward: ratio, geometric mean 4.00, minimum 2.00 {layer}",
        f"input gradient: ratio, geometric mean 0.500, minimum 0.500 {layer}",
    ]
    assert "of peak = minigan's / 40.0 GFLOP/s" in lines[5]
    assert max(map(len, lines)) <= 100
