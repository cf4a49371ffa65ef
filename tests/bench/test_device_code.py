"""`minigan bench --device-code`: occupancy by the documented limits, and predictions."""

import io
import json

import pytest

from minigan.bench import device_code, device_code_readme
from minigan.bench.gpus import GPUS, resident_blocks
from minigan.bench.kernels import KERNELS
from minigan.cli import main
from minigan.kernels.runtime.cuda import sass


@pytest.mark.parametrize(
    ("capability", "threads", "registers", "shared", "blocks"),
    [
        ("9.0", 256, 32, 0, 8),  # 2,048 threads
        ("9.0", 256, 33, 0, 6),  # 40 registers are taken
        ("9.0", 64, 88, 0, 10),  # 20 warps: 5 in each quarter of the registers
        ("9.0", 256, 128, 0, 2),
        ("9.0", 32, 16, 0, 32),  # 32 blocks
        ("8.9", 32, 16, 0, 24),
        ("7.5", 32, 16, 0, 16),
        ("8.9", 256, 32, 0, 6),  # 1,536 threads
        ("9.0", 64, 32, 75 * 1024, 3),  # 228 KiB, of which each block takes 76
        ("9.0", 64, 32, 76 * 1024, 2),
        ("7.5", 64, 32, 32 * 1024, 2),  # nothing reserved
    ],
)
def test_resident_blocks(capability, threads, registers, shared, blocks):
    assert resident_blocks(capability, threads, registers, shared) == blocks


def case(**fields):
    return {
        "family": "elementwise",
        "instructions": 100,
        "multiply_adds": 0,
        "bytes": 32,
        "waits": 1,
        "resident_threads": 2048,
        **fields,
    }


def test_a_prediction_is_limited_by_what_takes_the_most_cycles():
    gpu = GPUS["H100"]  # 12.8 byte a cycle and multiprocessor
    memory = device_code.predict(case(), gpu)
    assert (memory["limit"], memory["share"]) == ("memory", 1)
    assert memory["bytes"] == pytest.approx(gpu.memory)
    issue = device_code.predict(case(instructions=1000), gpu)
    assert issue["limit"] == "issue"
    assert issue["share"] == pytest.approx(32 * 32 / (gpu.memory / 132 / 1.98e9) / 250)
    latency = device_code.predict(case(waits=4, resident_threads=64), gpu)
    assert (latency["limit"], latency["cycles"]["latency"]) == ("latency", 800)


def test_a_product_whose_loop_is_nine_tenths_multiply_adds_reaches_nine_tenths_of_the_peak():
    gpu = GPUS["H100"]
    product = case(family="matmul", instructions=1000, multiply_adds=900)
    prediction = device_code.predict(product, gpu)
    assert prediction["share"] == pytest.approx(0.9)
    assert prediction["flops"] == pytest.approx(0.9 * gpu.flops)
    # 64 lanes of the A100 take two cycles for a warp's multiply-adds.
    assert device_code.predict(product, GPUS["A100"])["share"] == 1


def test_the_peaks_are_those_of_the_data_sheets():
    peaks = {name: round(gpu.flops * 1e-12, 1) for name, gpu in GPUS.items()}
    assert peaks == {"A100": 19.5, "RTX 4090": 82.6, "H100": 66.9, "H200": 66.9}


@pytest.fixture(scope="module")
def _disassembler():
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    if sass.find_disassembler() is None:
        pytest.skip("nvdisasm is not installed")


@pytest.mark.usefixtures("_disassembler")
def test_the_command_prints_a_table_and_writes_json_and_a_figure(tmp_path, capsys):
    json_path, figure_path = tmp_path / "a.json", tmp_path / "a.png"
    words = ["bench", "--device-code", "matmul", "--json", str(json_path)]
    assert main([*words, "--figure", str(figure_path)]) == 0
    printed = capsys.readouterr().out
    assert device_code.NOTE in printed
    assert "matmul product_128" in printed
    result = json.loads(json_path.read_text())
    assert {case["kernel"] for case in result["cases"]} >= {"product_128", "product_64"}
    assert result["note"] == device_code.NOTE
    assert figure_path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("_disassembler")
def test_markdown_and_a_capability_without_a_gpu_of_the_table():
    text = io.StringIO()
    result = device_code.run(["reduce"], capability="7.5", output=text, markdown=True)
    assert "| reduce sum_rows |" in text.getvalue()
    assert result["gpus"] == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device-code", "no_such"], "unknown kernel family 'no_such'"),
        (["--device-code", "--capability", "3.5"], "unknown compute capability '3.5'"),
        (["--device-code", "--devices", "cpu"], "does not go with --devices"),
        (["--device-code", "--vector-bytes", "16"], "does not go with --vector-bytes"),
        (["--device-code", "--repeats", "3"], "does not go with --repeats"),
        (["--markdown", "--vector-bytes", "16"], "--markdown goes with --device-code"),
        (["--capability", "9.0"], "--capability goes with --device-code"),
    ],
)
def test_wrong_arguments_are_refused(words, message, capsys):
    assert main(["bench", *words]) != 0
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("_disassembler")
def test_predictions_of_the_benchmarks_are_in_their_units():
    speeds = device_code.predict_benchmarks("NVIDIA H200")
    assert speeds.keys() == device_code.BENCHMARKED.keys() <= KERNELS.keys()
    assert speeds["add"] == pytest.approx(4800)  # GB/s
    assert 50_000 < speeds["matmul"] < 66_908  # GFLOP/s
    with pytest.raises(ValueError, match="'NVIDIA GH200 480GB' is not among"):
        device_code.predict_benchmarks("NVIDIA GH200 480GB")
    with pytest.raises(
        ValueError, match="'Tesla T4' is not among the GPUs of the table: NVIDIA A1"
    ):
        device_code.predict_benchmarks("Tesla T4")


# ------------------------------------------------------------------------------------ the READMEs
@pytest.mark.slow
@pytest.mark.usefixtures("_disassembler")
def test_every_family_has_a_table_of_its_kernels_in_its_readme():
    for name, source in device_code.families().items():
        text = source.with_name("README.md").read_text()
        table = text.split(device_code_readme.BEGIN)[1].split(device_code_readme.END)[0]
        cases = list(device_code.measure(name, source, "9.0", {"H200": GPUS["H200"]}))
        assert device_code.NOTE in table
        for case in cases:
            assert f"| {case['kernel'].rstrip('_')} |" in table, (name, case["kernel"])
        assert len(cases) == table.count("\n| ") - 2
        assert device_code_readme.block(cases).count("\n") == table.count("\n")


def test_spilled_registers_are_not_denied():
    with pytest.raises(ValueError, match="spill registers: f"):
        device_code_readme.block([{"kernel": "f", "local_bytes": 8}])
