"""Ops with kernels of one's own: values, gradients, capture, threads, caches, definitions."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator_helpers import COMPILER, EMULATOR, needs_compiler
from helpers import threads

import minigan as mg
from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.kernels.runtime.cpu.compiler import OWN_HASH
from minigan.kernels.runtime.cpu.sources import function_hash
from minigan.ops.samples import uniform

HERE = Path(__file__).parent
ON = pytest.mark.parametrize("device", ["cpu", EMULATOR])


@pytest.fixture
def pixel_norm(make_op: Callable[..., Op]) -> Iterator[Op]:
    from own_pixel_norm import pixel_norm

    Op.registry["pixel_norm"] = pixel_norm
    yield pixel_norm
    Op.registry.pop("pixel_norm", None)


def _scaled(make_op: Callable[..., Op], factor: str = "3", name: str = "scaled") -> Op:
    """An op whose definition is 2 x + shift, with a CUDA kernel of another factor."""
    op = make_op(
        name,
        lambda x, shift: x * 2 + x.dtype.type(shift),
        (lambda g, y, x, shift: g * 2.0,),
        [(uniform(3, 5), {"shift": 1.0})],
    )
    text = f"""
extern "C" __global__ void scale(Out<REAL> y, In<REAL> x, REAL shift, long long n) {{
    const long long i = global_thread();
    if (i < n) y[i] = x[i] * {factor} + shift;
}}"""
    op.kernel(
        "cuda",
        text,
        lambda cuda, y, x, shift: cuda.scale[-(-x.size // 64), 64](y, x, shift, x.size),
    )
    return op


# ----------------------------------------------------------------------------------- values
@ON
def test_the_kernel_runs_and_not_the_reference(
    pixel_norm: Op, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = mg.tensor([[3.0, 4.0], [0.0, -2.0]], device=device)
    pixel_norm(x)  # the reference tells shape and dtype of the result, once
    monkeypatch.setattr(pixel_norm, "reference", None)
    y = pixel_norm(x).numpy()
    assert y.dtype == np.float32
    assert np.allclose(y, [[3 / 12.5**0.5, 4 / 12.5**0.5], [0, -(2**0.5)]], rtol=1e-6)


@ON
def test_it_differentiates(pixel_norm: Op, device: str) -> None:
    x = mg.tensor([[3.0, 4.0]], device=device, requires_grad=True)
    (gx,) = mg.grad((pixel_norm(x) * mg.tensor([[1.0, 0.0]], device=device)).sum(), [x])
    # d/dx of x0 / sqrt((x0^2 + x1^2) / 2) at (3, 4): sqrt(2) (16, -12) / 125
    assert np.allclose(gx.numpy(), [[2**0.5 * 16 / 125, -(2**0.5) * 12 / 125]], rtol=1e-5)


@ON
@pytest.mark.parametrize("layout", ["transposed", "reversed", "every second"])
def test_it_takes_views(pixel_norm: Op, device: str, layout: str) -> None:
    x = mg.tensor(np.arange(1.0, 25.0).reshape(4, 6), device=device)
    view = {"transposed": x.T, "reversed": x[:, ::-1], "every second": x[:, ::2]}[layout]
    expected = pixel_norm.reference(view.numpy())
    assert np.allclose(pixel_norm(view).numpy(), expected, rtol=1e-6)


@ON
def test_a_replay_follows_its_argument_and_a_new_kernel(pixel_norm: Op, device: str) -> None:
    step = mg.capture(lambda x: pixel_norm(x) * 2.0)
    step(mg.tensor([[1.0, 1.0]], device=device))
    y = step(mg.tensor([[3.0, 4.0]], device=device)).numpy()
    assert np.allclose(y, [[6 / 12.5**0.5, 8 / 12.5**0.5]], rtol=1e-6)
    kind = "cpu" if device == "cpu" else "cuda"
    kernels, before = pixel_norm.kernels, pixel_norm.kernels[kind]
    try:
        if kind == "cpu":
            pixel_norm.kernel("cpu", _ones)
        else:
            text = 'extern "C" __global__ void ones(Out<REAL> y) { y[threadIdx.x] = 1; }'
            pixel_norm.kernel("cuda", text, lambda cuda, y, x: cuda.ones[1, y.size](y))
        assert step(mg.tensor([[3.0, 4.0]], device=device)).numpy().tolist() == [[2.0, 2.0]]
    finally:
        kernels[kind] = before


def _ones(out: Any, x: Any) -> None:
    out[:] = 1


@pytest.mark.skipif(not COMPILER, reason="there is no C++ compiler")
def test_attributes_and_numbers_have_the_dtype_of_the_inputs(make_op: Callable[..., Op]) -> None:
    op = _scaled(make_op)
    for dtype in ("float32", "float64"):
        y = op(mg.tensor([1.0, 2.0], device="cuda-emulator", dtype=dtype), shift=0.1).numpy()
        assert y.dtype == dtype
        assert np.array_equal(y, np.array([3, 6], dtype) + np.dtype(dtype).type(0.1))


@ON
def test_inputs_that_broadcast_arrive_in_one_shape(make_op: Callable[..., Op], device: str) -> None:
    op = make_op(
        "weighted",
        lambda a, b: a * 3 + b,
        (lambda g, y, a, b: g * 3.0, lambda g, y, a, b: g),
        [(uniform(2, 3), uniform(3)), (uniform(2, 3), 2.0)],
        broadcasts=True,
    )
    op.kernel("cpu", _weighted)
    text = """
extern "C" __global__ void weighted(Out<REAL> y, In<REAL> a, In<REAL> b) {
    y[threadIdx.x] = 3 * a[threadIdx.x] + b[threadIdx.x];
}"""
    op.kernel("cuda", text, lambda cuda, y, a, b: cuda.weighted[1, y.size](y, a, b))
    a, b = (mg.tensor(x, device=device) for x in ([[1.0, 2.0], [3.0, 4.0]], [10.0, 20.0]))
    assert op(a, b).numpy().tolist() == [[13, 26], [19, 32]]
    assert op(1.0, b).numpy().tolist() == [13, 23]
    assert op(a, 0.5).numpy().tolist() == [[3.5, 6.5], [9.5, 12.5]]


def _weighted(out: Any, a: Any, b: Any) -> None:
    for i in range(out.size):
        out.flat[i] = a.flat[i] * 3 + b.flat[i]


def test_bits_do_not_depend_on_threads(pixel_norm: Op) -> None:
    x = mg.tensor(np.random.default_rng(0).standard_normal((701, 97)), dtype="float32")
    one = pixel_norm(x).numpy()
    with threads(2):
        assert pixel_norm(x).numpy().tobytes() == one.tobytes()


# ----------------------------------------------------------------------------------- caches
@needs_compiler
def test_an_edited_file_is_compiled_again(make_op: Callable[..., Op], tmp_path: Path) -> None:
    op, path = _scaled(make_op), tmp_path / "scale.cu"
    text = op.kernels["cuda"].source.read_text()  # type: ignore[attr-defined]
    launch = op.kernels["cuda"].launch  # type: ignore[attr-defined]
    x = mg.tensor([1.0, 2.0], device="cuda-emulator")
    path.write_text(text)
    op.kernel("cuda", path, launch)
    assert op(x, shift=0.0).numpy().tolist() == [3, 6]
    path.write_text(text.replace("* 3", "* 10"))
    assert op(x, shift=0.0).numpy().tolist() == [10, 20]


# A program whose constant and CUDA text come from its arguments; it prints what it compiles.
PROGRAM = """
import sys
import numba
import numpy as np
import minigan as mg
from minigan.kernels.runtime.cpu import compiler

FACTOR = float(sys.argv[1])
helper = numba.njit(lambda x: x + 1)
op = mg.Op("own", lambda x: x, (None,))

@op.kernel("cpu")
def own_kernel(out, x):
    for i in range(x.size):
        out[i] = helper(x[i] * FACTOR)

for device in sys.argv[2:]:
    mg.get_device(device).on_compile(lambda name: print("compiles", name))
    if device != "cpu":
        op.kernel("cuda", 'extern "C" __global__ void own(Out<REAL> y, In<REAL> x) {\\n'
                  f"    y[threadIdx.x] = x[threadIdx.x] * {FACTOR}; }}",
                  lambda cuda, y, x: cuda.own[1, y.size](y, x))
    print(op(mg.tensor([1.0, 2.0], device=device)).numpy().tolist())
"""


@pytest.mark.slow
def test_other_processes_compile_only_what_has_changed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    devices = ["cpu", *["cuda-emulator"] * bool(COMPILER)]
    environment = {**os.environ, "MINIGAN_CACHE": str(tmp_path / "cache")}

    def run(factor: str) -> list[str]:
        command = [sys.executable, str(program), factor, *devices]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        return [x for x in done.stdout.splitlines() if "own" in x or "[" in x]

    first = run("2")
    assert first[:2] == ["compiles own_kernel", "[3.0, 5.0]"]
    program.write_text("\n\n" + PROGRAM)  # the kernel has moved, and is the same
    assert run("2") == [line for line in first if "compiles" not in line]
    changed = run("4")
    assert changed[:2] == ["compiles own_kernel", "[5.0, 9.0]"]
    if COMPILER:
        assert changed[-1] == "[4.0, 8.0]"
        assert len(changed) == 4


def _function(text: str, **variables: Any) -> Any:
    """The last function that a text defines, with such global variables."""
    namespace: dict[str, Any] = {"__name__": "own", "np": np, **variables}
    exec(text, namespace)
    return namespace[text.rsplit("def ", maxsplit=1)[-1].split("(", maxsplit=1)[0]]


def test_the_hash_of_a_kernel_has_all_that_numba_compiles_into_it() -> None:
    text = "def f(out, x): out[0] = np.exp(x[0]) * 2 + helper(x[1]) + TABLE[1]"
    table = np.array([1.0, 2.0])

    def value(text: str = text, helper: str = "x + 1", table: np.ndarray = table) -> str:
        return function_hash(
            _function(text, helper=_function(f"def helper(x): return {helper}"), TABLE=table)
        )

    assert value() == value()
    different = [
        value(),
        value(text.replace("* 2", "* 3")),
        value(text.replace("np.exp", "np.log")),
        value(helper="x + 2"),
        value(helper="x + 1 if x in {1, 2} else x"),
        value(helper="x + 1 if x in {1, 3} else x"),
        value(table=np.array([1.0, 3.0])),
        value(table=table.astype("float32")),
        function_hash(_function(text, helper=None, TABLE=table), "boundscheck"),
    ]
    assert len(set(different)) == len(different)


# ------------------------------------------------------------------------------ wrong kernels
def test_kernels_that_cannot_be(make_op: Callable[..., Op], tmp_path: Path) -> None:
    op = make_op("own", lambda x: x, (None,))
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        op.kernel("gpu", "own.cu")
    with pytest.raises(FileNotFoundError, match=f"there is no file {HERE / 'absent.cu'}"):
        op.kernel("cuda", "absent.cu")  # relative to this file
    with pytest.raises(TypeError, match=r"the cpu kernel .* takes the result first"):
        op.kernel("cpu", lambda out: None)
    op.kernel("cpu", lambda out, x: x.no_such_attribute)
    with pytest.raises(TypeError, match=r"own: numba cannot compile the cpu kernel .*Unknown attr"):
        op(mg.tensor([1.0]))


@needs_compiler
def test_a_launch_without_a_grid(make_op: Callable[..., Op]) -> None:
    op = _scaled(make_op)
    path = op.kernels["cuda"].source  # type: ignore[attr-defined]
    x = mg.tensor([1.0], device=get_device("cuda-emulator"))
    for launch, says in (
        (lambda cuda, y, x, shift: cuda.scale(y, x), r"write scale\[grid, block\]\(\.\.\.\)"),
        (lambda cuda, y, x, shift: cuda.scale[1](y, x), "as in kernel<<<grid, block, shared>>>"),
        (lambda cuda, y, x, shift: cuda.scales[1, 1](y, x), "has no kernel 'scales'; it has scale"),
    ):
        op.kernel("cuda", path, launch)
        with pytest.raises((TypeError, AttributeError), match=says):
            op(x, shift=0.0)


def test_a_captured_step_notices_the_first_kernel(make_op: Callable[..., Op]) -> None:
    """Planted: the kernel adds another number than the reference, so that one sees which ran."""
    op = make_op("later", lambda x: x + 1.0, (lambda g, y, x: g,), [(uniform(3),)])
    step = mg.capture(lambda x: op(x) * 1.0)
    x = mg.tensor([1.0, 2.0])
    assert step(x).tolist() == [2.0, 3.0]

    @op.kernel("cpu")
    def fill(out: Any, x: Any) -> None:
        for i in range(x.size):
            out[i] = x[i] + 6.0

    assert step(x).tolist() == op(x).tolist() == [7.0, 8.0]


def test_each_dtype_is_compiled_with_the_variables_of_its_time(make_op: Callable[..., Op]) -> None:
    """Another process finds a compiled kernel by these variables."""
    scope: dict[str, Any] = {"SCALE": 2.0}
    exec("def fill(out, x):\n    for i in range(x.size):\n        out[i] = x[i] * SCALE", scope)
    op = make_op("scaled_later", lambda x: x * 2.0, (None,), [(uniform(3),)])
    op.kernel("cpu", scope["fill"])
    assert op(mg.tensor([1.0])).tolist() == [2.0]
    hashes = [getattr(scope["fill"], OWN_HASH)]
    scope["SCALE"] = 3.0
    assert op(mg.tensor([1.0], dtype="float64")).tolist() == [3.0]
    assert op(mg.tensor([1.0])).tolist() == [2.0]  # compiled before, as by numba
    assert getattr(scope["fill"], OWN_HASH) not in hashes


def test_attributes_that_are_arrays_are_told_apart(make_op: Callable[..., Op]) -> None:
    index = np.arange(2000)
    other = index.copy()
    other[1000] = 3  # a repr of an array leaves its middle out
    sample = (uniform(4), {"index": index})
    op = make_op("chosen", lambda x, index: x[index[index < 4]], (None,), [sample])

    @op.kernel("cpu")
    def fill(out: Any, x: Any, index: Any) -> None:
        n = 0
        for i in range(index.size):
            if index[i] < 4:
                out[n] = x[index[i]]
                n += 1

    x = mg.tensor([0.0, 1.0, 2.0, 3.0])
    assert op(x, index=index).tolist() == [0, 1, 2, 3]
    assert op(x, index=other).tolist() == [0, 1, 2, 3, 3]
