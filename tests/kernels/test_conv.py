"""Convolutions against their reference in float64, as adjoints, and bit for bit on any threads."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conv_helpers import BY_INPUT, BY_WEIGHT, FORWARD, OPERATIONS, calls, case, check, geometries
from helpers import (
    DEVICES,
    FLOATS,
    KERNEL_DEVICES,
    LAYOUTS,
    assert_close,
    run,
    spy_parallel,
    threads,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minigan as mg
from minigan import ops
from minigan.engine.device import get_device
from minigan.kernels.conv2d import columns, cpu, tables
from minigan.kernels.runtime.cpu.simd import VECTOR_BYTES


@FLOATS
@settings(max_examples=40)
@given(shape=geometries(), seed=st.integers(0, 99), layout=st.sampled_from(sorted(LAYOUTS)))
@example(case(64, 1, 28, 64, 4, 2, 1), 0, "contiguous")  # splits of the weight's gradient
@example(case(65, 1, 28, 3, 4, 2, 1), 0, "contiguous")  # the last split has fewer steps
@example(case(23, 2, 14, 3, 4, 2, 1), 0, "contiguous")  # the last step has fewer images
@example(case(9, 70, 14, 50, 4, 2, 1), 0, "transposed")  # panels of all widths, K-blocks
@example(case(2, 3, 40, 3, 3, 1, 1), 0, "contiguous")  # few columns, a stretch of several tiles
@example(case(3, 40, 6, 4, 5, 1, 2), 0, "contiguous")  # few columns, two K-blocks
@example(case(2, 5, 3, 7, 1, 3, 0), 0, "contiguous")  # pixels that no weight reaches
@example(case(3, 600, 1, 3, 1, 1, 0), 0, "contiguous")
@example(case(3, 1, 19, 40, 4, 2, 1), 0, "transposed")  # unrolled images
@example(case(2, 2, 24, 33, 2, 3, 2), 0, "contiguous")
@example(case(2, 1, 9, 33, 3, 1, 4), 0, "contiguous")
@example(case(3, 5, 9, 7, 1, 1, 0), 0, "transposed")  # kernels of one pixel
@example(case(3, 5, 7, 7, 1, 1, 0), 0, "contiguous")
def test_the_cpu_equals_the_reference(
    dtype: str, shape: dict[str, Any], seed: int, layout: str
) -> None:
    for op, arrays, attributes in calls(shape, seed, dtype):
        check("cpu", op, [LAYOUTS[layout](a) for a in arrays], attributes)


VIEWS = {
    "flipped down": lambda w: np.flip(np.flip(w, 2).copy(), 2),
    "flipped across": lambda w: np.flip(np.flip(w, 3).copy(), 3),
    "rotated by half a turn": lambda w: np.flip(np.flip(w, (2, 3)).copy(), (2, 3)),
    "transposed": lambda w: w.swapaxes(2, 3).copy().swapaxes(2, 3),
    "channels last": lambda w: w.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2),
    "one number": lambda w: np.broadcast_to(w[:, :1, :1, :1], w.shape),
}


@FLOATS
@pytest.mark.parametrize("view", VIEWS)
def test_weights_and_cotangents_may_lie_in_any_order(dtype: str, view: str) -> None:
    """Blocks whose first and last steps are a block's width apart, and others between."""
    for kernel in ((3, 3), (5, 1), (3, 1), (2, 2), (4, 4), (2, 6), (3, 7), (7, 2)):
        shape = {**case(1, 5, 8, 33, 3, 1, 0), "kernel": kernel, "padding": (3, 3)}
        for op, arrays, attributes in calls(shape, 0, dtype):
            check("cpu", op, [VIEWS[view](a) for a in arrays], attributes)


DIGESTS = """
import hashlib, platform, sys
machine = sys.argv[1]
if machine:
    platform.machine = lambda: machine
sys.path[:0] = sys.argv[2:]
from test_conv import digests
from minigan.kernels.runtime.cpu.simd import REGISTERS, VECTOR_BYTES
print(VECTOR_BYTES, REGISTERS, *digests())
"""
ELSEWHERE = [
    ("haswell", "+sse4.2,+avx,+avx2,+fma", "", "32 16"),
    ("x86-64", "+sse4.2,+fma", "", "16 16"),
]
ELSEWHERE += [("x86-64", "+sse4.2,+fma", "aarch64", "16 32")]


def digests() -> list[str]:
    result = []
    for dtype in ("float32", "float64"):
        for shape in (
            case(3, 5, 8, 20, 3, 1, 1),
            case(2, 7, 9, 3, 4, 2, 1),
            case(2, 3, 5, 4, 3, 1, 1),
        ):
            for op, arrays, attributes in calls(shape, 0, dtype):
                y = cpu.KERNELS[op.name](*arrays, **attributes)
                result.append(hashlib.sha256(y.tobytes()).hexdigest()[:16])
    return result


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 feature names")
@pytest.mark.parametrize(("name", "features", "machine", "widths"), ELSEWHERE)
def test_narrower_vectors_give_the_same_bits(
    name: str, features: str, machine: str, widths: str, tmp_path: Path
) -> None:
    """So it is on processors without AVX-512, without AVX2, and (but for the code) on Arm."""
    if int(widths.split(maxsplit=1)[0]) > VECTOR_BYTES:
        pytest.skip("this machine has no such vectors")
    here = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "MINIGAN_CACHE": str(tmp_path)}
    here_and_above = map(str, Path(__file__).parents[:2])
    command = [sys.executable, "-c", DIGESTS, machine, *here_and_above]
    done = subprocess.run(
        command,
        env={**os.environ, **here},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*widths.split(), *digests()]


@KERNEL_DEVICES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_where_the_reference_has_them(device: str, value: float) -> None:
    for size, kernel, stride, padding in ((6, 4, 2, 1), (5, 3, 1, 2), (5, 1, 2, 0), (4, 3, 3, 1)):
        for op, arrays, attributes in calls(
            case(2, 2, size, 5, kernel, stride, padding), 0, "float32"
        ):
            for bad in (0, 1):
                spoiled = [a.copy() for a in arrays]
                spoiled[bad][0, 0, 0, 0] = spoiled[bad][-1, -1, -1, -1] = value
                check(device, op, spoiled, attributes)


def test_every_element_of_a_result_is_written(poisoned: list[tuple[int, ...]]) -> None:
    """Memory that was not written is NaN here, in the workspaces too."""
    for shape in (case(3, 2, 7, 5, 4, 2, 1), case(1, 3, 9, 2, 3, 3, 0), case(2, 1, 5, 4, 1, 2, 0)):
        for op, arrays, attributes in calls(shape, 0, "float32"):
            check("cpu", op, arrays, attributes)
    assert poisoned


def test_bits_do_not_depend_on_threads_or_on_what_else_is_in_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = spy_parallel(monkeypatch)
    for op, arrays, attributes in calls(case(64, 32, 14, 64, 4, 2, 1), 0, "float32"):
        with threads(1):
            alone = cpu.KERNELS[op.name](*arrays, **attributes)
        with threads(2):
            assert np.array_equal(cpu.KERNELS[op.name](*arrays, **attributes), alone)
        if op is not BY_WEIGHT:
            few = cpu.KERNELS[op.name](arrays[0][5:8], arrays[1], **attributes)
            assert np.array_equal(few, alone[5:8])
    assert {"forward_or_input_grad", "weight_grad"} <= set(shared)


@FLOATS
@KERNEL_DEVICES
@settings(max_examples=5)
@given(shape=geometries(), seed=st.integers(0, 99))
def test_the_three_operations_are_each_others_adjoints(
    device: str, dtype: str, shape: dict[str, Any], seed: int
) -> None:
    """<conv(x, w), g> = <x, input_grad(g, w)> = <w, weight_grad(x, g)>"""
    cases = calls(shape, seed, dtype)
    (x, w), (g, _) = cases[0][1], cases[1][1]
    ours = [run(device, op, arrays, attributes) for op, arrays, attributes in cases]
    others = (g, x, w)
    dots = [float(np.sum(y.astype(np.float64) * z)) for y, z in zip(ours, others, strict=True)]
    size = float(np.sum(np.abs(ours[0].astype(np.float64) * g))) + 1
    bound = 1000 * float(np.finfo(dtype).eps) * size
    assert abs(dots[0] - dots[1]) <= bound
    assert abs(dots[0] - dots[2]) <= bound


@DEVICES
def test_one_pixel_and_one_position_are_matrix_products(device: str) -> None:
    """The same as the convolution; where weights are infinite, other positions have no NaN."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s) for s in ((2, 3, 1, 1), (3, 4, 5, 2), (4,)))
    y = ops.conv_transpose2d(*(mg.tensor(a, device=device) for a in (x, w, b)))
    want = BY_INPUT.reference(x, w, (5, 2), (1, 1), (0, 0)) + b[:, None, None]
    assert_close(y.numpy(), want, 1e-13)
    back = ops.conv2d(y, mg.tensor(w, device=device))
    assert back.shape == (2, 3, 1, 1)
    assert_close(back.numpy(), FORWARD.reference(want, w, (1, 1), (0, 0)), 1e-12)
    w[0, 0, 1, 1] = np.inf
    y = ops.conv_transpose2d(*(mg.tensor(a, device=device) for a in (abs(x), w)))
    assert np.isinf(y.numpy()).sum() == 2
    assert not np.isnan(y.numpy()).any()


@pytest.mark.parametrize("out", [3, 40])
def test_an_empty_batch(out: int) -> None:
    """Through tables, and of unrolled images."""
    for op, arrays, attributes in calls(case(1, 1, 9, out, 3, 1, 1), 0, "float32"):
        none = [a[:0] if i == 0 or op is BY_WEIGHT else a for i, a in enumerate(arrays)]
        y = cpu.KERNELS[op.name](*none, **attributes)
        want = op.reference(*none, **attributes)
        assert y.shape == want.shape
        assert not y.any()


def test_products_of_images_take_little_memory() -> None:
    """The weight's gradient of a kernel of one pixel has (o, c) numbers for each image."""
    one = (1, 1), (0, 0)
    assert columns.pays((64, 128, 1, 1), 256, *one)
    assert not columns.pays((1024, 1024, 1, 1), 64, *one)
    assert columns.pays((64, 1, 4, 4), 196, (2, 2), (1, 1))
    assert not columns.pays((64, 3, 4, 4), 196, (2, 2), (1, 1))


def test_kernels_refuse_other_dtypes() -> None:
    x = np.zeros((1, 1, 3, 3))
    with pytest.raises(TypeError, match="one dtype, float32 or float64, not float64, float32"):
        cpu.conv2d(x, x.astype(np.float32), (1, 1), (0, 0))
    with pytest.raises(TypeError, match="not int64, int64"):
        cpu.conv2d(x.astype(int), x.astype(int), (1, 1), (0, 0))


def test_tables_are_made_once() -> None:
    tables.forward.cache_clear()
    x = np.zeros((1, 1, 3, 3))
    for _ in range(3):
        cpu.conv2d(x, x, (1, 1), (0, 0))
    assert tables.forward.cache_info().misses == 1


# ------------------------------------------------------------------------------ what is refused
IMAGE, WEIGHT = mg.tensor(np.zeros((2, 3, 6, 8))), mg.tensor(np.zeros((4, 3, 3, 3)))
REFUSED: dict[str, tuple[Any, str]] = {
    "channels": (
        lambda: ops.conv2d(IMAGE, mg.tensor(np.zeros((4, 2, 3, 3)))),
        r"the input \(2, 3, 6, 8\) has 3 channels, the weight \(4, 2, 3, 3\) takes 2",
    ),
    "the transposed's channels": (
        lambda: ops.conv_transpose2d(IMAGE, WEIGHT),
        r"weight \(4, 3, 3, 3\) takes 4; weights are \(in, out, kh, kw\)",
    ),
    "axes": (lambda: ops.conv2d(IMAGE[0], WEIGHT), r"input \(3, 6, 8\) and weight"),
    "a bias": (lambda: ops.conv2d(IMAGE, WEIGHT, IMAGE[0, 0, 0]), r"bias \(8,\); one number for"),
    "a large kernel": (
        lambda: ops.conv2d(IMAGE, mg.tensor(np.zeros((4, 3, 9, 3))), padding=1),
        r"a kernel of \(9, 3\) with stride \(1, 1\) and padding \(1, 1\) does not fit",
    ),
    "dilation": (lambda: ops.conv2d(IMAGE, WEIGHT, dilation=2), "dilation = 2 is not supported"),
    "groups": (lambda: ops.conv2d(IMAGE, WEIGHT, groups=3), "groups = 3 is not supported"),
    "a stride": (lambda: ops.conv2d(IMAGE, WEIGHT, stride=0), "stride = 0; an integer of at least"),
    "a padding": (lambda: ops.conv2d(IMAGE, WEIGHT, padding=-1), "padding = -1; an integer of at"),
    "three strides": (lambda: ops.conv2d(IMAGE, WEIGHT, stride=(1, 1, 1)), r"stride = \(1, 1, 1\)"),
    "output padding": (
        lambda: ops.conv_transpose2d(IMAGE, mg.tensor(np.zeros((3, 2, 3, 3))), output_padding=1),
        "output_padding = 1 is not less than stride = 1",
    ),
    "nothing left": (
        lambda: ops.conv_transpose2d(IMAGE, mg.tensor(np.zeros((3, 2, 1, 1))), padding=4),
        "leaves -2 x 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_cpu_never_runs_the_reference() -> None:
    device = get_device("cpu")
    for name in OPERATIONS:
        assert device.kernels[name] is cpu.KERNELS[name]  # type: ignore[attr-defined]
