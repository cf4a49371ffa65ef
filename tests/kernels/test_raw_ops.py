"""Ops called with attributes or shapes that do not fit raise before a kernel runs, on each device.

A kernel computes addresses from shapes and attributes, so one that runs would end the process.
"""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from emulator_helpers import COMPILER
from helpers import ALL_OPS, DEVICES, samples

import minigan as mg
from minigan import ops
from minigan.engine.op import Op

S = slice
COUNTER = [np.array([3]), np.array([5])]
DRAW = {"stream": 1, "shape": (2, 3), "dtype": "float32"}
IMAGE, OUT, WEIGHT = np.ones((2, 3, 6, 6)), np.ones((2, 4, 3, 3)), np.ones((4, 3, 4, 4))
HALF = {"stride": (2, 2), "padding": (1, 1)}
ROWS, MATRIX = np.ones((3, 2, 4)), np.ones((4, 3))
INDEX = np.zeros((4, 3), np.int64)

# Each is (op, inputs, attributes, what is wrong).
WRONG: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("slice_scatter", [np.ones(2)], {"shape": (4,), "index": (S(0, 3),), "value": 0.0}),
    ("slice_scatter", [np.ones(1)], {"shape": (4,), "index": (S(0, 3),), "value": 0.0}),
    ("slice_scatter", [np.ones(2)], {"shape": (4,), "index": (7,), "value": 0.0}),
    ("slice_scatter", [np.ones(2)], {"shape": (-4,), "index": (S(0, 2),), "value": 0.0}),
    ("slice_scatter", [np.ones(2)], {"shape": (4,), "index": ([0, 1],), "value": 0.0}),
    ("slice", [np.ones(2)], {"index": (2,)}),
    ("slice", [np.ones(2)], {"index": (np.array([0]),)}),
    ("reshape", [np.ones(6)], {"shape": (4,)}),
    ("reshape", [np.ones(6)], {"shape": (-1, 2)}),
    ("transpose", [MATRIX], {"axes": (0, 0)}),
    ("transpose", [MATRIX], {"axes": (0, 2)}),
    ("broadcast_to", [MATRIX], {"shape": (2, 4, 4)}),
    ("concatenate", [MATRIX, np.ones((2, 4))], {"axis": 0}),
    ("concatenate", [MATRIX, MATRIX], {"axis": 2}),
    ("concatenate", [MATRIX, MATRIX], {"axis": -1}),
    ("sum", [MATRIX], {"axis": (1, 0), "keepdims": False}),
    ("sum", [MATRIX], {"axis": (2,), "keepdims": False}),
    ("sum", [MATRIX], {"axis": (-1,), "keepdims": False}),
    ("max", [np.ones((0, 3))], {"axis": (0,), "keepdims": False}),
    ("gather", [MATRIX, np.zeros((4, 2), np.int64)], {"axis": 0}),
    ("gather", [MATRIX, INDEX], {"axis": 2}),
    ("scatter_add", [MATRIX, np.zeros((5, 3), np.int64)], {"axis": 0, "size": 4}),
    ("scatter_add", [MATRIX, INDEX], {"axis": 0, "size": -1}),
    ("conv2d", [IMAGE, WEIGHT], {"stride": (0, 1), "padding": (1, 1)}),
    ("conv2d", [IMAGE, WEIGHT], {"stride": (1, 1), "padding": (-1, 1)}),
    ("conv2d", [IMAGE, np.ones((4, 2, 4, 4))], HALF),
    ("conv2d", [IMAGE, np.ones((4, 3, 9, 9))], HALF),
    ("conv2d", [IMAGE[0], WEIGHT], HALF),
    ("conv2d_input_grad", [OUT, WEIGHT], {"size": (8, 8), **HALF}),
    ("conv2d_input_grad", [OUT, WEIGHT], {"size": (6,), **HALF}),
    ("conv2d_input_grad", [OUT, WEIGHT[:3]], {"size": (6, 6), **HALF}),
    ("conv2d_weight_grad", [IMAGE, OUT], {"kernel": (6, 6), **HALF}),
    ("conv2d_weight_grad", [IMAGE, OUT[:1]], {"kernel": (4, 4), **HALF}),
    ("conv2d_weight_grad", [IMAGE, OUT], {"kernel": (4, 4), "stride": (1, 1), "padding": (1, 1)}),
    ("sum_pool", [IMAGE], {"kernel": (7, 2), "stride": (1, 1)}),
    ("sum_pool", [IMAGE], {"kernel": (2, 2), "stride": (0, 1)}),
    ("sum_pool_grad", [OUT], {"kernel": (2, 2), "stride": (2, 2), "size": (4, 4)}),
    ("sum_pool_grad", [OUT], {"kernel": (2, 2), "stride": (2, 2), "size": (9, 6)}),
    ("dense", [MATRIX, np.ones((4, 2)), np.ones(2)], {}),
    ("dense", [MATRIX, np.ones((3, 2)), np.ones(3)], {}),
    ("matmul", [MATRIX, MATRIX], {}),
    ("normalize", [ROWS, np.ones(3), np.ones(2)], {"eps": 1e-5}),
    ("normalize", [ROWS[0], np.ones(2), np.ones(2)], {"eps": 1e-5}),
    ("normalize", [ROWS, 1.0, 0.0], {"eps": 0.0}),
    ("normalize_sums", [ROWS, ROWS[:2]], {"eps": 1e-5}),
    ("normalize_grad", [ROWS[:, :1], ROWS, 1.0], {"eps": 1e-5}),
    ("inverse_std", [MATRIX], {"eps": 1e-5}),
    ("l1_distances", [MATRIX, np.ones((3, 2))], {}),
    ("l1_distances_grad", [MATRIX, MATRIX, MATRIX], {}),
    ("l1_distances_jvp", [np.ones((4, 2)), MATRIX, MATRIX], {}),
    ("random_uniform", COUNTER, {**DRAW, "low": 1.0, "high": 0.0}),
    ("random_uniform", COUNTER, {**DRAW, "low": 0.0, "high": np.inf}),
    ("random_normal", COUNTER, {**DRAW, "shape": (2, -3)}),
    ("random_normal", COUNTER, {**DRAW, "shape": 6}),
    ("random_normal", COUNTER, {**DRAW, "dtype": "int64"}),
    ("random_normal", [np.zeros(0, np.int64), COUNTER[1]], DRAW),
    ("random_laplace", [COUNTER[0], np.zeros((1, 1), np.int64)], DRAW),
    ("random_laplace", COUNTER, {**DRAW, "stream": 2**64}),
    ("random_bernoulli", COUNTER, {**DRAW, "p": 1.5}),
    ("random_permutation", COUNTER, {"stream": 1, "n": -1}),
    ("random_permutation", COUNTER, {"stream": 1, "n": 2.5}),
    ("clip", [MATRIX], {"low": 1.0, "high": 0.0}),
    ("leaky_relu", [MATRIX], {"slope": None}),
    ("dropout", [MATRIX, np.ones((2, 3))], {"scale": 2.0}),
    ("cast", [MATRIX], {"dtype": "float16"}),
    ("add", [MATRIX, np.ones((2, 3))], {}),
]


@DEVICES
@pytest.mark.parametrize(
    ("name", "inputs", "attributes"), WRONG, ids=[f"{i}-{row[0]}" for i, row in enumerate(WRONG)]
)
def test_wrong_shapes_and_attributes_are_refused_with_the_name_of_the_op(
    name: str, inputs: list[Any], attributes: dict[str, Any], device: str
) -> None:
    xs = [mg.tensor(x, device=device) if isinstance(x, np.ndarray) else x for x in inputs]
    with pytest.raises((ValueError, TypeError, IndexError), match=rf"^({name}:|unknown dtype)"):
        Op.registry[name](*xs, **attributes)


@ALL_OPS
def test_inputs_and_attributes_are_counted(name: str) -> None:
    """One input too many, one too few, an attribute that is unknown or missing, a string."""
    op = Op.registry[name]
    makers, attributes = next(samples(op))
    rng = np.random.default_rng(0)
    xs = [mg.tensor(x(rng), device="reference") if callable(x) else x for x in makers]
    calls: list[tuple[list[Any], dict[str, Any]]] = [
        (xs, {**attributes, "unknown": 1}),
        (["text", *xs[1:]], attributes),
    ]
    if op.arity is not None:
        calls += [([*xs, xs[0]], attributes), (xs[:-1], attributes)]
    calls += [(xs, {k: v for k, v in attributes.items() if k != key}) for key in attributes]
    for inputs, options in calls:
        with pytest.raises(TypeError, match=f"^{name}: "):
            op(*inputs, **options)


# A copy of a sample with one or two changes is called, in a process that may end by a signal.
FUZZ = """
import sys
import numpy as np
import minigan as mg
from minigan.engine.op import Op
from helpers import samples

device, seed = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(seed)
JUNK = [None, -1, 0, 1, 7, 2**62, 1.5, np.nan, True, "a", (), (1,), (-1, 2), slice(None), ...]

def changed(x):
    if isinstance(x, bool) or rng.random() < 0.3:
        return JUNK[rng.integers(len(JUNK))]
    if isinstance(x, int):
        return x + int(rng.integers(-3, 4))
    if isinstance(x, float):
        return float(rng.choice([-x, 0.0, np.nan, np.inf]))
    if isinstance(x, slice):
        return slice(*(None if rng.random() < 0.3 else int(rng.integers(1, 7)) for _ in range(3)))
    if isinstance(x, tuple) and x:
        k = rng.integers(len(x))
        return (*x[:k], changed(x[k]), *x[k + 1:]) if rng.random() < 0.8 else x[:k]
    return JUNK[rng.integers(len(JUNK))]

def reshaped(a):
    if not isinstance(a, np.ndarray):
        return changed(a)
    shape = list(a.shape)
    k = int(rng.integers(a.ndim + 1))
    if k < a.ndim and rng.random() < 0.7:
        shape[k] = int(rng.integers(0, 6))
    else:
        shape.insert(k, int(rng.integers(0, 4)))
    return np.resize(a, shape)

counts = {"done": 0, "refused": 0}
for _ in range(400):
    op = Op.registry[str(rng.choice(sorted(Op.registry)))]
    cases = list(samples(op))
    makers, attributes = cases[rng.integers(len(cases))]
    inputs = [x(rng) if callable(x) else x for x in makers]
    for _ in range(rng.integers(1, 3)):
        if attributes and rng.random() < 0.6:
            key = str(rng.choice(sorted(attributes)))
            attributes = {**attributes, key: changed(attributes[key])}
        else:
            k = rng.integers(len(inputs))
            inputs[k] = reshaped(inputs[k])
    tensors = [mg.tensor(x, device=device) if isinstance(x, np.ndarray) else x for x in inputs]
    try:
        op(*tensors, **attributes).numpy()
        counts["done"] += 1
    except (TypeError, ValueError, IndexError, MemoryError):
        counts["refused"] += 1
assert min(counts.values()) > 50, counts
"""


@pytest.mark.parametrize("device", ["reference", "cpu", *["cuda-emulator"] * COMPILER])
def test_random_attributes_and_shapes_end_no_process(device: str) -> None:
    folder = os.path.dirname(os.path.dirname(__file__))
    done = subprocess.run(
        [sys.executable, "-P", "-c", FUZZ, device, "0"],
        env={**os.environ, "PYTHONPATH": folder},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"


# --------------------------------------------------------- indices that change after the capture
@DEVICES
@pytest.mark.parametrize("bad", [-1, 4, 2**40, -(2**40)])
def test_a_captured_index_out_of_range(bad: int, device: str) -> None:
    """Raised in a replay on the host; NaN from a CUDA kernel, in the gradient of the table too."""
    table = mg.tensor(np.arange(12.0).reshape(4, 3), device=device, requires_grad=True)

    def step(i: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
        y = ops.gather(table, i)
        (g,) = mg.grad(y.sum(), [table])
        return y.detach(), g

    captured = mg.capture(step)

    def indices(*values: int) -> mg.Tensor:
        return mg.tensor(np.array(values).reshape(-1, 1), device=device)

    y, g = captured(indices(1, 3))
    assert y.numpy().tolist() == [[3, 4, 5], [9, 10, 11]]
    if device in ("reference", "cpu"):
        with pytest.raises(IndexError, match="gather"):
            captured(indices(1, bad))
    else:
        y, g = captured(indices(1, bad))
        assert np.array_equal(y.numpy(), [[3, 4, 5], [np.nan] * 3], equal_nan=True)
        assert np.isnan(g.numpy()).all()
    y, g = captured(indices(0, 0))
    assert y.numpy().tolist() == [[0, 1, 2], [0, 1, 2]]
    assert g.numpy().tolist() == [[2] * 3, *[[0] * 3] * 3]


@DEVICES
def test_a_captured_label_out_of_range_makes_no_finite_loss(device: str) -> None:
    logits = mg.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]], device=device, requires_grad=True)
    loss = mg.capture(lambda i: mg.nn.functional.cross_entropy(logits, i))
    assert np.isfinite(loss(mg.tensor([0, 2], device=device)).item())
    bad = mg.tensor([0, 3], device=device)
    if device in ("reference", "cpu"):
        with pytest.raises(IndexError):
            loss(bad)
    else:
        assert np.isnan(loss(bad).item())
    with pytest.raises(IndexError, match="cross_entropy: index 3 is outside an axis of size 3"):
        mg.nn.functional.cross_entropy(logits, bad)
