"""`python -m minigan.bench.gpu`, tried on the emulator in real processes, whole and cut off."""

import json
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from emulator_helpers import has_gpu, needs_compiler
from run_helpers import ENVIRONMENT, fresh_signals, wait_for

from minigan.bench.gpu.parts import PARTS

CHECKOUT = Path(__file__).parents[2]
KERNEL_CASES = 24  # of the emulator's settings: 12 kernels at two sizes
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="processes are found in Linux's /proc"
)


def start(folder, *words, device="cuda-emulator", **environment):
    """Start the command in the checkout, where its tests are."""
    options = ["--out", str(folder), "--device", device, *words]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "minigan.bench.gpu", *options],
        cwd=CHECKOUT,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=fresh_signals,  # noqa: PLW1509
    )


def run(folder, *words, **options):
    """Return (exit status, stdout, stderr)."""
    process = start(folder, *words, **options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def before_path(folder):
    """Return a PYTHONPATH that begins with the folder. (An empty entry would be this folder.)"""
    return os.pathsep.join(filter(None, [str(folder), ENVIRONMENT.get("PYTHONPATH")]))


def read(path):
    """Return what a JSON file holds; a number that JSON does not have is an error."""
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def case_count(folder):
    path = folder / "kernels.json"
    return sum(map(len, read(path)["series"].values())) if path.exists() else 0


def processes(folder):
    """Return the ids of the processes that have the folder in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(folder) in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # The process has ended.
            pass
    return found


# --------------------------------------------------------------------------------------- whole runs
@needs_compiler
def test_parts_are_run_and_summarized(tmp_path):
    folder = tmp_path / "new" / "folder"
    status, out, err = run(folder, "--parts", "steps,kernels,machine,tests", "--minutes", "5")
    assert status == 0, (out, err)
    summary = read(folder / "summary.json")
    parts = summary["parts"]
    assert list(parts) == ["machine", "tests", "kernels", "steps"]  # in the order of worth
    assert [part["state"] for part in parts.values()] == ["done"] * 4, parts
    assert parts["tests"]["result"] == {
        "selected": 2,
        "passed": 2,
        "failed": 0,
        "skipped": 0,
        "failures": [],
    }
    assert parts["kernels"]["result"] == {"cases": KERNEL_CASES, "failed": {}, "skipped": {}}
    limits = [part["limit"] for part in parts.values()]
    assert sum(part["seconds"] for part in parts.values()) < summary["seconds"] < 300
    assert min(limits) > 10  # of 300 s
    names = {"machine.json", "kernels.json", "kernels.png", "steps.json"}
    logs = {f"{name}.log" for name in parts}
    assert {x.name for x in folder.iterdir()} == {*names, *logs, "summary.json", "summary.md"}
    assert "lscpu" in read(folder / "machine.json")["programs"]
    text = (folder / "summary.md").read_text()
    assert text.strip() in out
    for line in (
        "**Tried on the emulator with tiny sizes: these times say nothing of a GPU.**",
        "| tests: tests of the CUDA kernels | done |",
        "| float32 product 16 x 16 x 16 / cuBLAS, TF32 off | >= 0.800 |",
        "| MLP, batch 64 |",
        "runs on one core, fast build",
    ):
        assert line in text
    assert "1/4 machine: the machine and its versions, up to " in out
    states = [line["state"] for line in summary["targets"]]
    if find_spec("torch") is None:
        assert {line.get("reason") for line in summary["targets"]} == {"PyTorch is not installed"}
    else:
        assert "not measured" not in states[:7]
        assert states[7:] == ["not measured"] * 2  # There are no CUDA graphs on a CPU.


@needs_compiler
def test_compute_sanitizers_tools_run_the_tests(tmp_path):
    """Run the command with a stand-in: no machine without a GPU has the real one."""
    tool = tmp_path / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text(
        '#!/bin/sh\necho "========= COMPUTE-SANITIZER"\n[ "$1" = --tool ] || exit 9\nname=$2\n'
        'shift 2\n"$@"\n[ $name = memcheck ] && exec echo "========= ERROR SUMMARY: 0 errors"\n'
        'echo "========= Error: Race reported between Write access at f+0x90"\n'
        'echo "=========     and Read access at f+0xa0"\n'
        'echo "========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)"\n'
    )
    tool.chmod(0o755)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    status, out, err = run(tmp_path / "out", "--parts", "memcheck,racecheck", PATH=path)
    assert status == 1, (out, err)
    memcheck, racecheck = read(tmp_path / "out" / "summary.json")["parts"].values()
    assert (memcheck["state"], memcheck["result"]["errors"]) == ("done", 0)
    assert memcheck["result"]["tests"]["passed"] == 2
    assert "[cuda-emulator] PASSED" in (tmp_path / "out" / "memcheck.log").read_text()
    assert racecheck["state"] == "failed"
    first = "Error: Race reported between Write access at f+0x90"
    assert racecheck["reason"] == f"1 errors, first: {first}"
    assert racecheck["result"]["reports"] == [first]


@needs_compiler
def test_a_part_that_fails_is_reported_and_the_others_go_on(tmp_path):
    """Let the process of a part end at the import of a library, as a broken one does."""
    broken = tmp_path / "path" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("import os\nprint('out of order', flush=True)\nos._exit(7)")
    path = before_path(broken.parent)
    folder = tmp_path / "out"
    status, out, _ = run(folder, "--parts", "machine,kernels,tests", PYTHONPATH=path)
    assert status == 1
    parts = read(folder / "summary.json")["parts"]
    assert [part["state"] for part in parts.values()] == ["done", "done", "failed"]
    assert parts["kernels"]["reason"] == "exit status 7: out of order"
    assert "3/3 kernels: failed in" in out
    (line, *_) = read(folder / "summary.json")["targets"]
    assert line["reason"] == "part kernels: failed: exit status 7: out of order"


# ------------------------------------------------------------------------------------------ cut off
@needs_proc
@needs_compiler
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_what_it_has_and_no_process(tmp_path, number):
    folder = tmp_path / "out"
    process = start(folder, "--parts", "machine,kernels,steps")
    wait_for(lambda: case_count(folder) > 1, process)
    assert len(processes(folder)) == 2
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    # Linux ends the part's process a moment after that of the command.
    with subprocess.Popen(["sleep", "20"]) as timer:
        wait_for(lambda: not processes(folder), timer)
        timer.kill()
    assert 1 < case_count(folder) < KERNEL_CASES
    summary = read(folder / "summary.json")
    states = [part["state"] for part in summary["parts"].values()]
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert states == ["done", "running", "not reached"]
    else:
        assert process.returncode == 130
        assert states == ["done", "stopped", "not reached"]
        assert summary["parts"]["kernels"]["result"]["cases"] == case_count(folder)
        assert err.splitlines()[-1].endswith(f"interrupted; {folder}/summary.md has what was done")
        text = (folder / "summary.md").read_text()
        assert "| steps: training steps beside PyTorch | not reached |" in text


@needs_compiler
def test_a_part_that_is_cut_off_leaves_its_cases_and_the_next_part_runs(tmp_path):
    """Let the second kernel take forever: PyTorch stands still in its convolution."""
    library = tmp_path / "path" / "torch"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("")
    stub = tmp_path / "path" / "sitecustomize.py"
    stub.write_text(
        "import sys, time, types\n"
        "peer = types.ModuleType('minigan.bench.peers.pytorch_device')\n"
        "peer.get_threads, peer.set_threads = lambda: 1, lambda count: None\n"
        "peer.wait = lambda device: lambda: None\n"
        "def kernel_calls(name, arrays, size, device):\n"
        "    return {'copy': (lambda: time.sleep(1000)) if name == 'conv2d' else lambda: int}\n"
        "peer.kernel_calls = kernel_calls\n"
        "sys.modules[peer.__name__] = peer\n"
    )
    path = before_path(stub.parent)
    folder = tmp_path / "out"
    options = ["--parts", "kernels,synccheck", "--minutes", "0.4"]
    status, out, err = run(folder, *options, PYTHONPATH=path, TQDM_DISABLE="")
    assert status == 0, (out, err)
    kernels, synccheck = read(folder / "summary.json")["parts"].values()
    assert kernels["state"] == "cut off", out
    assert kernels["reason"] == "its time was over"
    assert kernels["limit"] <= kernels["seconds"] < kernels["limit"] + 6
    assert kernels["result"] == {"cases": 2, "failed": {}, "skipped": {}}
    assert list(read(folder / "kernels.json")["series"]) == ["matmul"]
    assert (folder / "kernels.png").stat().st_size > 1000
    assert synccheck["state"] == "skipped"
    assert "compute-sanitizer, a part of NVIDIA's CUDA toolkit, is not" in synccheck["reason"]
    assert re.match(r"1/2 kernels \d+/18, 00:0\d elapsed, 00:\d\d left\n", err), err


# ----------------------------------------------------------------------------------------- refusals
@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path):
    status, out, err = run(tmp_path / "out", device="cuda")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("python -m minigan.bench.gpu: error: the cuda device")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "--minutes 0.0 is not a positive number"),
        (["--minutes", "nan"], "--minutes nan is not a positive number"),
        (["--minutes", "inf"], "--minutes inf is not a positive number"),
        (["--minutes", "x"], "argument --minutes: invalid float value: 'x'"),
        (["--device", "cpu"], "unknown device 'cpu'"),
        (["--parts", "kernel"], "unknown part 'kernel'; did you mean 'kernels'"),
        (["--parts", ""], "unknown part ''"),
        (["--out", str(CHECKOUT)], "is not empty; give another --out"),
        (["--out", __file__], "is a file, not a folder; give another --out"),
    ],
)
def test_options_are_refused_in_one_line(tmp_path, words, message):
    status, out, err = run(tmp_path / "out", *words)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_every_part_has_a_share_and_fits_its_table():
    assert list(PARTS)[:6] == ["machine", "tests", "kernels", "steps", "compiled", "sizes"]
    assert list(PARTS)[6:] == ["memcheck", "racecheck", "initcheck", "synccheck"]
    assert sum(part.share for part in PARTS.values()) == pytest.approx(540)  # seconds, 9 minutes
