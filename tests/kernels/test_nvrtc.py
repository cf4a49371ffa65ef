"""Every `.cu` file compiles for real GPUs, without a warning, on a machine that has none."""

import os
from pathlib import Path

import numpy as np
import pytest

from minigan import kernels
from minigan.kernels.runtime.cuda.launcher import KernelError
from minigan.kernels.runtime.cuda.nvrtc import CAPABILITIES, compile_for

SOURCES = sorted(Path(kernels.__file__).parent.rglob("*.cu"))
# The kernel families with dtypes other than floats.
OTHER_DTYPES = {"elementwise": ("int64", "bool"), "shape": ("int64", "bool"), "reduce": ("int64",)}
FLOAT32_ONLY = {"tf32.cu"}
CASES = [
    pytest.param(source, dtype, id=f"{source.parent.name}.{source.stem}-{dtype}")
    for source in SOURCES
    for dtype in ("float32", "float64", *OTHER_DTYPES.get(source.parent.name, ()))
    if dtype == "float32" or source.name not in FLOAT32_ONLY
]


@pytest.fixture(scope="module", autouse=True)
def _packages():
    if not os.environ.get("CI"):
        pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")


def compiler_version() -> tuple[int, int]:
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return major, minor


@pytest.mark.parametrize(
    "capability", [pytest.param(c, marks=[pytest.mark.slow] * (c != "9.0")) for c in CAPABILITIES]
)
@pytest.mark.parametrize(("source", "dtype"), CASES)
def test_it_compiles_without_a_warning_and_into_registers(source, dtype, capability):
    """An array with indices unknown to the compiler would be in local memory, which is slow."""
    compiled = compile_for(source, np.dtype(dtype), capability)
    assert compiled.warnings == ""
    spilled = {kernel: n for kernel, n in compiled.local_bytes.items() if n}
    # NVRTC 13.0 spills a few registers of three kernels; 13.5 does not. Both are in use.
    assert spilled == {} or (compiler_version() < (13, 5) and max(spilled.values()) <= 112)
    assert 0 < max(compiled.registers.values()) <= 255


def test_an_array_in_local_memory_is_reported(tmp_path):
    source = tmp_path / "local.cu"
    source.write_text(
        'extern "C" __global__ void f(In<long long> x, Out<REAL> y) {\n'
        "    REAL own[64] = {};\n"
        "    for (int i = 0; i < 99; ++i) own[x[i]] += 1;\n"
        "    y[0] = own[7];\n"
        "}\n"
    )
    assert compile_for(source, np.dtype("float32"), "9.0").local_bytes["f"] >= 64 * 4


def test_the_kernels_that_test_the_emulator_are_cuda():
    """A GPU could run them too, mistakes included."""
    source = Path(__file__).with_name("planted.cu")
    assert "tree_in_step" in compile_for(source, np.dtype("float32"), "9.0").registers


def test_headers_are_pasted_and_errors_name_the_file_that_has_them(tmp_path):
    source = tmp_path / "tile.cu"
    source.write_text(
        '#include "register_tile.h"\n'
        'extern "C" __global__ void f(Out<REAL> y) {\n    y[0] = undeclared;\n}\n'
    )
    with pytest.raises(KernelError, match=r"tile\.cu\(3\): error: .*undeclared"):
        compile_for(source, np.dtype("float32"), "9.0")
    source.write_text('#include "no_such.h"\n')
    with pytest.raises(KernelError, match=r"tile\.cu:1: there is no header .*no_such\.h"):
        compile_for(source, np.dtype("float32"), "9.0")


def test_there_is_something_to_compile():
    assert {source.parent.name for source in SOURCES} >= {
        *OTHER_DTYPES,
        "matmul",
        "optimizer",
        "random",
    }


def test_a_warning_and_an_error_are_reported_with_their_lines(tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text('extern "C" __global__ void f(Out<REAL> y) { int unused; y[0] = 1; }\n')
    warnings = compile_for(source, np.dtype("float32"), "9.0").warnings
    assert warnings.startswith("wrong.cu(1): warning")
    assert "ptxas" not in warnings
    source.write_text('extern "C" __global__ void f(In<REAL> x) { x[0] = 1; }\n')
    with pytest.raises(KernelError, match=r"wrong\.cu\(1\): error: .*modifiable"):
        compile_for(source, np.dtype("float32"), "9.0")
