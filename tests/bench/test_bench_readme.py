"""`python -m minigan.bench.readme` writes the GPU results of `minigan bench` into a README."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigan.bench import readme

ROOT = Path(__file__).parents[2]
GPU = {
    "gpu": "NVIDIA Example",
    "memory": "140 GiB",
    "capability": "9.0",
    "driver": "for CUDA 13.0",
    "cupy": "14.2.0",
}
MACHINE = {
    "processor": "P, 16 cores",
    "threads": 16,
    "python": "3.12.1",
    "packages": {"numpy": "2.4.6", "torch": None},
    "devices": {"cuda": GPU},
    "driver": "580.95",
    "date": "2026-01-02",
}


def kernel(size, work, **seconds):
    return {"size": size, "work": work, "seconds": {k: 3 * [x] for k, x in seconds.items()}}


RESULT = {
    "machine": MACHINE,
    "repeats": 9,
    "devices": ["cpu", "cuda"],
    "series": {
        "matmul": [
            kernel(64, 1e9, cpu=1.0, cuda=2.0, cuBLAS=1.0),
            kernel(1024, 4e9, cpu=2.0, cuda=1.0, cuBLAS=1.0),
            kernel(4096, 8e9, cuda=1.0, cuBLAS=0.8),
        ],
        "exp": [kernel(64, 1e9, cpu=4.0, cuda=2.0, PyTorch=4.0, copy=1.0)],
        "sum": [kernel(64, 1e9, cpu=1.0)],
        "step": [
            {
                "task": "MLP",
                "batch": 64,
                "seconds": {"cpu": [0.02], "cuda": [0.004], "PyTorch": [0.01]},
            }
        ],
    },
}


@pytest.fixture
def project(tmp_path):
    """Return a folder with a README and a file of results."""
    (tmp_path / readme.MEASURED).mkdir()
    (tmp_path / readme.MEASURED / "a.json").write_text(json.dumps(RESULT))
    (tmp_path / "README.md").write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    return tmp_path


def test_readme_of_the_benchmarks_is_up_to_date():
    folder = ROOT / "minigan" / "bench"
    text = (folder / "README.md").read_text()
    block = text[text.index(readme.BEGIN) : text.index(readme.END) + len(readme.END)]
    assert block == readme.block(folder / readme.MEASURED)


def test_command_writes_machine_kernels_and_steps(project):
    command = [sys.executable, "-m", "minigan.bench.readme", str(project / "README.md")]
    for _ in range(2):  # The second time changes nothing.
        subprocess.run(command, check=True)
        lines = (project / "README.md").read_text().splitlines()
        assert lines == [
            "before",
            readme.BEGIN,
            "**NVIDIA Example**, 140 GiB, capability 9.0, driver 580.95 (for CUDA 13.0), beside 16"
            " threads of P, 16 cores; 2026-01-02; Python 3.12.1, numpy 2.4.6, cupy 14.2.0."
            " Medians of 9 interleaved rounds.",
            "",
            "| kernel | unit | GPU faster | n | GPU | beside | ratio | n | GPU | beside | ratio |",
            "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            "| product of two squares, edge n | GFLOP/s | from n = 256 on | 1,024 | 4.00 | cpu 2.00"
            " | 2.00 | 4,096 | 8.00 | cuBLAS 10.0 | 0.800 |",
            "| exp | GB/s | at every size | 64 | 0.500 | cpu 0.250 | 2.00 | 64 | 0.500"
            " | PyTorch 0.250, copy 1.00 | 2.00, 0.500 |",
            "",
            "| training step, ms | CPU | GPU | PyTorch eager | PyTorch CUDA graph"
            " | PyTorch compiled |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            "| MLP, batch 64 | 20.0 | 4.00 | 10.0 | - | - |",
            readme.END,
            "after",
        ]


def test_gpus_are_in_the_order_of_their_files(project):
    other = json.dumps(RESULT).replace("NVIDIA Example", "Another")
    (project / readme.MEASURED / "b.json").write_text(other)
    text = readme.block(project / readme.MEASURED)
    assert text.index("NVIDIA Example") < text.index("Another")


def test_without_results_the_text_says_that_nothing_was_measured(tmp_path):
    assert "Nothing has been measured" in readme.block(tmp_path / "none")


@pytest.mark.parametrize(
    ("devices", "machine"),
    [
        (["cpu", "cuda-emulator"], {**MACHINE, "devices": {"cuda-emulator": {"runs on": "g++"}}}),
        (["cpu", "cuda"], {**MACHINE, "devices": {"cuda": {"runs on": "g++"}}}),
        (["cpu"], MACHINE),
        (None, None),
    ],
)
def test_results_without_a_gpu_are_refused_and_the_readme_stays(devices, machine, project):
    result = {**RESULT, "devices": devices, "machine": machine or {}}
    (project / readme.MEASURED / "b.json").write_text(json.dumps(result))
    before = (project / "README.md").read_text()
    with pytest.raises(ValueError, match=re.escape(f"b.json: devices {devices}; the README takes")):
        readme.rewrite(project / "README.md")
    assert (project / "README.md").read_text() == before


@pytest.mark.parametrize(
    "text",
    ["", readme.BEGIN, f"{readme.END}\n{readme.BEGIN}", 2 * f"{readme.BEGIN}\n{readme.END}\n"],
)
def test_readme_without_its_two_markers_is_refused(text, project):
    (project / "README.md").write_text(text)
    with pytest.raises(SystemExit, match=r"one line .* and one .* below it") as error:
        readme.main([str(project / "README.md")])
    assert len(str(error.value).splitlines()) == 1
    assert (project / "README.md").read_text() == text


@pytest.mark.parametrize("arguments", [[], ["one", "two"], ["no/such/file.md"]])
def test_invalid_arguments_are_refused_in_one_line(arguments):
    with pytest.raises(SystemExit, match=re.escape("minigan.bench.readme")) as error:
        readme.main(arguments)
    assert len(str(error.value).splitlines()) == 1
