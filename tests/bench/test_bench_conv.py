"""`minigan bench conv` measures each face of a convolution, in turns. No time is asserted."""

import io
import json
import math
import sys

import numpy as np
import pytest
from helpers import assert_close

from minigan import bench
from minigan.bench import conv, floor
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


# --------------------------------------------------------------------------------------- the whole
def test_each_face_of_each_convolution_is_measured(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch raises ImportError
    cases, text = run()
    labels = ["3-5 4x4/2, 6x6", "1-4 3x3/1, 7x7"]
    found = [(case["layer"], case["batch"], case["face"]) for case in cases]
    assert found == [(x, n, face) for x, n in zip(labels, (2, 3), strict=True) for face in FACES]
    for case in cases:
        assert list(case["seconds"]) == ["minigan"]
        assert len(case["seconds"]["minigan"]) == 2
    assert text[text.index("conv:") :].count("not installed") == 6
    assert "geometric mean" not in text


def test_pytorch_runs_beside_in_two_orders():
    pytest.importorskip("torch", reason=NO_TORCH)
    cases, text = run()
    assert all(list(case["seconds"]) == ["minigan", *conv.PEERS] for case in cases)
    assert text.count("geometric mean") == 3


# ---------------------------------------------------------------------------------------- the work
FACES = ("forward", "input gradient", "weight gradient")
OPS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


def reference_ops(convolution):
    """What each face is, by the ops' own definitions."""
    x, w, g = conv.operands(convolution)
    places = {"stride": [convolution.stride] * 2, "padding": [convolution.padding] * 2}
    size, kernel = {"size": x.shape[2:]}, {"kernel": w.shape[2:]}
    given = zip(OPS, ((x, w), (g, w), (x, g)), ({}, size, kernel), strict=True)
    return [Op.registry[name].reference(*pair, **places, **more) for name, pair, more in given]


@pytest.mark.parametrize("convolution", SMALL)
def test_every_contender_computes_the_faces(convolution, monkeypatch):
    pytest.importorskip("torch", reason=NO_TORCH)
    monkeypatch.setattr(floor, "fma_rate", lambda threads: 1.0)
    plan = Plan(convolutions=(convolution,))
    (group,) = conv.groups(plan, {conv.MODULE: load(conv.MODULE)}, 1)
    wanted = reference_ops(convolution)
    assert list(group.calls) == ["minigan", *conv.PEERS]
    for calls in group.calls.values():
        for call, want in zip(calls, wanted, strict=True):
            assert_close(np.asarray(call()), want, 1e-4)


def test_pytorchs_arrays_lie_in_the_order_that_is_named():
    pytest.importorskip("torch", reason=NO_TORCH)
    x, w, g = conv.operands(SMALL[1])  # of one channel
    calls = load(conv.MODULE).calls(x, w, g, 1, 1)
    strides = {name: faces[0].args[0].stride() for name, faces in calls.items()}
    assert strides == {"PyTorch": (49, 49, 7, 1), "PyTorch, NHWC": (49, 1, 7, 1)}


@pytest.mark.parametrize("convolution", [*SMALL, *CONVOLUTIONS[:1]])
def test_the_work_is_that_of_the_product_which_it_stands_for(convolution):
    _, w, g = conv.operands(convolution)
    assert conv.multiply_adds(convolution) == g.size * math.prod(w.shape[1:])
    if convolution in SMALL:
        assert reference_ops(convolution)[0].shape == g.shape


# ------------------------------------------------------------------------------------------ report
def test_the_report():
    def case(face, own, *peers):
        times = zip(("minigan", *conv.PEERS), (own, *peers), strict=False)
        seconds = {name: [x] * 3 for name, x in times}
        work = {"flops": 10**7, "flops_per_second": 4e10}
        return {"layer": "1-2 3x3/1, 4x4", "batch": 7, "face": face, **work, "seconds": seconds}

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
    least = "(1-2 3x3/1, 4x4, batch 7)"
    assert lines[-2:] == [
        f"forward: ratio, geometric mean 4.00, minimum 2.00 {least}",
        f"input gradient: ratio, geometric mean 0.500, minimum 0.500 {least}",
    ]
    assert "of peak = minigan's / 40.0 GFLOP/s" in lines[5]
    assert max(map(len, lines)) <= 100
