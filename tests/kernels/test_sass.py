"""Machine code is read and its hot path found, from listings written here and from real kernels."""

from pathlib import Path

import numpy as np
import pytest

from minigan import kernels
from minigan.kernels.runtime.cuda import hot_path, sass
from minigan.kernels.runtime.cuda.nvrtc import CAPABILITIES, compile_for


def listing(*lines: str) -> sass.Code:
    """Return the code of the kernel f whose lines are labels ("name:") and instructions."""
    text, address = [".text.f:"], 0
    for line in lines:
        if line.endswith(":"):
            text.append(line)
        else:
            text.append(f"        /*{address:04x}*/                   {line} ;")
            address += 16
    return sass.parse("\n".join(text))["f"]


LOAD, STORE = "LDG.E.128 R4, desc[UR4][R2.64]", "STG.E.128 desc[UR4][R8.64], R4"
# A loop of two ways: 16 bytes at once (3 instructions in the branch), or 4 times 4 bytes.
LOOP = (
    "S2R R0, SR_TID.X",
    ".L_1:",
    "ISETP.NE.AND P0, PT, R1, RZ, PT",
    "@P0 BRA `(.L_2)",
    LOAD,
    "BRA `(.L_3)",
    ".L_2:",
    *("LDG.E R4, desc[UR4][R2.64]",) * 4,
    ".L_3:",
    "FFMA R5, R4, R6, R5",
    "ISETP.NE.AND P1, PT, R7, RZ, PT",
    "@P1 BRA `(.L_1)",
)
PADDING = (".L_9:", "BRA `(.L_9)", "NOP")


def names(path: hot_path.HotPath) -> list[str]:
    return [x.base for x in path.instructions]


def test_the_hot_path_is_the_shortest_way_through_the_loop_with_the_most_work():
    path = hot_path.find(listing(*LOOP, "STG.E desc[UR4][R8.64], R5", "EXIT", *PADDING))
    assert path.is_loop
    assert names(path) == ["ISETP", "BRA", "LDG", "BRA", "FFMA", "ISETP", "BRA"]
    assert (path.global_bytes, path.multiply_adds, path.widest_access) == (16, 1, 16)


def test_a_loop_that_is_left_at_its_beginning_lies_on_a_way_to_the_end():
    code = listing(
        ".L_1:",
        "ISETP.NE.AND P0, PT, R1, RZ, PT",
        "@P0 BRA `(.L_2)",
        LOAD,
        *("FFMA R5, R4, R6, R5",) * 9,
        "BRA `(.L_1)",
        ".L_2:",
        "STG.E desc[UR4][R8.64], R5",
        "EXIT",
    )
    path = hot_path.find(code)
    assert path.is_loop
    assert (path.multiply_adds, len(path.instructions)) == (9, 13)


def test_code_behind_the_end_that_jumps_back_is_no_loop():
    code = listing(
        LOAD,
        "@P0 BRA `(.L_2)",
        ".L_1:",
        STORE,
        "EXIT",
        ".L_2:",
        "FADD R4, R4, 1",
        "BRA `(.L_1)",
    )
    path = hot_path.find(code)
    assert not path.is_loop
    assert names(path) == ["LDG", "BRA", "STG", "EXIT"]


def test_a_loop_off_the_way_of_most_work_is_not_the_hot_path():
    """As in Adam's kernel: 16 bytes at once, or one number after another in the last thread."""
    code = listing(
        "@P0 BRA `(.L_1)",
        LOAD,
        STORE,
        "EXIT",
        ".L_1:",
        "LDG.E R4, desc[UR4][R2.64]",
        "STG.E desc[UR4][R8.64], R4",
        "@P1 BRA `(.L_1)",
        "EXIT",
    )
    path = hot_path.find(code)
    assert not path.is_loop
    assert path.global_bytes == 32


def test_loads_are_grouped_by_what_waits_for_them():
    together = (LOAD, "LDG.E.64 R10, desc[UR4][R2.64]", "FADD R0, R7, R1", "FADD R0, R11, R1")
    assert hot_path.find(listing(*together, "EXIT")).load_groups == [24]
    in_turn = (LOAD, "FADD R0, R5, R1", "LDG.E R10, desc[UR4][R2.64]", "FADD R0, R10, R1")
    assert hot_path.find(listing(*in_turn, "EXIT")).load_groups == [16, 4]


@pytest.mark.parametrize(
    ("line", "kind", "size"),
    [
        ("@!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64]", "global memory", 16),
        ("STG.E.U8 desc[UR4][R2.64], R4", "global memory", 1),
        ("LDG.E R4, [R2.64+0x10]", "global memory", 4),
        ("LDS.128 R4, [R2]", "shared memory", 0),
        ("STL [R1], R4", "local memory", 0),
        ("FFMA R4, R5, R6, R4", "multiply-add", 0),
        ("IMAD.WIDE R4, R5, 0x4, R6", "other", 0),
    ],
)
def test_an_instruction_is_read(line, kind, size):
    (instruction,) = listing(line).instructions
    assert (instruction.kind, instruction.global_bytes) == (kind, size)
    assert str(instruction) == line


# ----------------------------------------------------------------------------------- real kernels
@pytest.fixture(scope="module")
def _disassembler():
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    if sass.find_disassembler() is None:
        pytest.skip("nvdisasm is not installed")


def codes(family: str, capability: str) -> dict[str, sass.Code]:
    source = Path(kernels.__file__).with_name(family) / "cuda.cu"
    return sass.disassemble(compile_for(source, np.dtype("float32"), capability).cubin)


@pytest.mark.usefixtures("_disassembler")
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_loop_of_a_product_has_its_multiply_adds(capability):
    """A slice of `depth` steps of an edge x edge tile, divided among the threads."""
    found = codes("matmul", capability)
    for kernel, edge, depth, threads in (
        ("product_128", 128, 8, 256),
        ("product_64", 64, 16, 256),
        ("product_32", 32, 16, 64),
    ):
        path = hot_path.find(found[kernel])
        assert path.is_loop
        assert path.multiply_adds % (edge * edge * depth // threads) == 0
        assert path.multiply_adds > 0


def test_without_a_disassembler_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sass, "find_disassembler", lambda: None)
    with pytest.raises(FileNotFoundError, match="pip install nvidia-cuda-nvdisasm"):
        sass.disassemble(b"")


@pytest.mark.usefixtures("_disassembler")
def test_what_is_no_cubin_is_refused():
    with pytest.raises(RuntimeError, match="nvdisasm: "):
        sass.disassemble(b"no cubin")
