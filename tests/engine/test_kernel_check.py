"""`mg.check` finds what is wrong with an op and its kernels: each planted bug is caught."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator_helpers import COMPILER, needs_compiler

import minigan as mg
from minigan.engine.check import CheckError, GradientError, check_op
from minigan.engine.op import Op
from minigan.ops.samples import Sampler, uniform

MakeOp = Callable[..., Op]
CUDA = (Path(__file__).parents[1] / "pixel_norm.cu").read_text()


@pytest.fixture
def pixel_norm(make_op: MakeOp) -> Iterator[Op]:
    from own_pixel_norm import pixel_norm as op

    Op.registry["pixel_norm"] = op
    kernels = dict(op.kernels)
    yield op
    op.kernels.update(kernels)


def _with_text(op: Op, old: str, new: str) -> None:
    """Give the op the CUDA kernel with one change in its text."""
    assert CUDA.count(old) == 1, old
    launch = op.kernels["cuda"].launch  # type: ignore[attr-defined]
    op.kernel("cuda", CUDA.replace(old, new), launch)


# ------------------------------------------------------------------------------ what is right
def test_what_is_right_passes(pixel_norm: Op) -> None:
    report = mg.check(pixel_norm)
    assert repr(report) == (
        "pixel_norm passes: 1 sample and 6 other sizes; kernels on"
        f" cpu{', cuda-emulator' * bool(COMPILER)}; gradients up to order 2"
    )


@pytest.mark.parametrize("name", ["tanh", "matmul", "sum", "gather"])
def test_ops_of_the_library_pass_on_the_cpu(name: str) -> None:
    assert mg.check(Op.registry[name], ["cpu"], order=1).devices == ("cpu",)


# ------------------------------------------------------------------------------- CUDA kernels
@needs_compiler
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (  # a race: the line, and both threads
            "        __syncthreads();\n    }",
            "    }",
            r"pixel_norm \(pixel_norm.cu:10\): block \(0, 0, 0\), thread \(\d+, 0, 0\) writes"
            r" part\[\d+\], which thread \(\d+, 0, 0\) reads .*: a race",
        ),
        (  # one past the end
            "] = x[first + j] *",
            "] = x[first + j + 1] *",
            r"pixel_norm \(pixel_norm.cu:14\): block \(4, 0, 0\), thread \(32, 0, 0\) reads"
            r" x\[165\], outside its elements 0 to 164",
        ),
        pytest.param(  # the last element of a row is not written
            "j < n; j += 128) y",
            "j < n - 1; j += 128) y",
            r"5 of 165 elements are wrong; element \(0, 32\) is nan, by the reference -?\d",
            marks=pytest.mark.slow,
        ),
        pytest.param(  # right only for rows of at most 128 numbers
            "for (long long j = threadIdx.x; j < n; j += 128) y",
            "if (const long long j = threadIdx.x; j < n) y",
            r"inputs \(3, 257\): 387 of 771 elements are wrong; element \(0, 128\) is nan",
            marks=pytest.mark.slow,
        ),
        ("sum += x[first + j] * x", "sum += y[first + j * x", "g.. cannot compile it: .*:6:"),
        pytest.param(
            "sqrt(part[0] / n +",
            "sqrt(part[0] / (n + 1) +",
            r"164 of 165 elements are wrong; element \(0, 0\) is 0\.444",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_wrong_cuda_kernel(pixel_norm: Op, old: str, new: str, says: str) -> None:
    _with_text(pixel_norm, old, new)
    with pytest.raises(CheckError, match=f"^pixel_norm on cuda-emulator, float32.*{says}"):
        mg.check(pixel_norm, ["cuda-emulator"])


@needs_compiler
def test_a_kernel_that_loses_a_nan(make_op: MakeOp) -> None:
    op = make_op("above", lambda x: np.maximum(x, 0), (None,), [(uniform(2, 3),)])
    text = """
extern "C" __global__ void above(InOut<REAL> y, InOut<REAL> x, long long n) {
    if (threadIdx.x < n) y[threadIdx.x] = fmax(x[threadIdx.x], REAL(0));
}"""

    def launch(cuda: Any, y: Any, x: Any) -> None:
        cuda.above[1, 1024](y, x, x.size)

    op.kernel("cuda", text, launch)
    with pytest.raises(CheckError, match=r", nan in input 0: 1 of 6 .* is 0\.0, by the .* nan"):
        mg.check(op)
    op.kernel("cuda", text.replace("fmax(x[threadIdx.x], REAL(0))", "x[threadIdx.x] = 0"), launch)
    with pytest.raises(CheckError, match="the kernel has changed its inputs"):
        mg.check(op)


# -------------------------------------------------------------------------------- CPU kernels
def _above(out: Any, x: Any) -> None:
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = max(x[i, j + 1], 0)


def _first(out: Any, x: Any, begin: Any, end: Any) -> None:
    for i in range(begin, end):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] - x[begin, 0]


def test_a_wrong_index_in_a_cpu_kernel(make_op: MakeOp) -> None:
    op = make_op("above", lambda x: np.maximum(x, 0), (None,), [(uniform(2, 3),)])
    op.kernel("cpu", _above)
    line = _above.__code__.co_firstlineno + 3
    with pytest.raises(
        CheckError,
        match=rf"above on cpu, float32, inputs \(2, 3\): the kernel _above \(test_kernel_check.py:"
        rf"{line}\): index 3 is out of bounds .*, at i = 0, j = 2",
    ):
        mg.check(op)


def test_a_cpu_kernel_that_depends_on_where_its_part_begins(make_op: MakeOp) -> None:
    op = make_op("first", lambda x: x - x[0, 0], (None,), [(uniform(4, 3),)])
    op.kernel("cpu", _first)
    with pytest.raises(CheckError, match=r"_first .* another result in two parts, rows 0 to 2 and"):
        mg.check(op)


# --------------------------------------------------------------------------- the op around them
def test_a_reference_of_another_dtype(make_op: MakeOp) -> None:
    reference = lambda x: x * np.float64(2)  # noqa: E731
    op = make_op("doubled", reference, (lambda g, y, x: g * 2.0,), [(uniform(3),)])
    with pytest.raises(CheckError, match=r"result is float64, its inputs float32; write \.astype"):
        mg.check(op, ["reference"])
    assert "doubled on cpu, float32: the result is float64" in check_op(op).failure


def test_a_kernel_whose_result_has_another_shape_or_dtype(
    make_op: MakeOp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kernel of a family may return, which allocates its result itself."""
    op = make_op("doubled", lambda x: x + x, (None,), [(uniform(3),)])
    for wrong, says in (
        (
            lambda x: np.float64(2) * x,
            r"result is float64\(3,\), the reference's float32\(3,\)",
        ),
        (lambda x: (x + x)[None], r"the result is float32\(1, 3\), the reference's float32\(3,\)"),
    ):
        kernels = mg.get_device("cpu").kernels  # type: ignore[attr-defined]
        monkeypatch.setitem(kernels, "doubled", wrong)
        with pytest.raises(CheckError, match=says):
            mg.check(op)
        assert re.search(says, check_op(op).failure)


def test_a_wrong_gradient(make_op: MakeOp) -> None:
    op = make_op("doubled", lambda x: x + x, (lambda g, y, x: g * 2.004,), [(uniform(3),)])
    with pytest.raises(GradientError, match="doubled, order 1: the VJPs say"):
        mg.check(op)


def test_no_samples(make_op: MakeOp) -> None:
    op = make_op("doubled", lambda x: x + x, (None,))
    with pytest.raises(CheckError, match="doubled: it has no samples to be checked on"):
        mg.check(op)
    assert "FAIL: doubled: it has no samples" in check_op(op).failure


def test_sizes_that_agree_in_a_sample_agree_in_the_others(make_op: MakeOp) -> None:
    seen = []

    def reference(x: np.ndarray, bias: np.ndarray) -> np.ndarray:
        seen.append((x.shape, bias.shape))
        return x + bias

    op = make_op("biased", reference, (None, None), [(uniform(5, 33), uniform(33))])
    report = mg.check(op, ["reference"])
    assert (report.samples, report.sizes, report.refused) == (1, 6, 0)
    assert {x[1:] for x, _ in seen} == {bias for _, bias in seen}
    assert {x for x, _ in seen} == {(5, 33), (1, 1), (11, 67), (3, 257), (257, 3), (2, 0), (0, 2)}
    assert isinstance(op.samples[0][0], Sampler)


def test_a_sample_that_is_a_plain_function_has_one_size(make_op: MakeOp) -> None:
    op = make_op("doubled", lambda x: x + x, (None,), [(lambda rng: rng.random((2, 3)),)])
    op.kernel("cpu", _twice)
    report = mg.check(op)
    assert (report.samples, report.sizes, report.devices) == (1, 0, ("cpu",))


def _twice(out: Any, x: Any) -> None:
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] + x[i, j]
