"""The parts of `python -m minigan.bench.gpu`: their times, processes, logs and targets."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from minigan.bench.gpu import logs, summary, targets
from minigan.bench.gpu.parts import PARTS, Part
from minigan.bench.gpu.process import Outcome, run_limited
from minigan.bench.gpu.runner import Budget, Run
from minigan.bench.gpu.settings import KERNEL_ORDER, SETTINGS
from minigan.bench.kernels import KERNELS
from minigan.bench.plan import DevicePlan

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are found in Linux's /proc"
)


# -------------------------------------------------------------------------------------------- time
class Clock:
    """A clock that stands still until a test or a part moves it."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_time_that_a_part_does_not_use_goes_to_the_later_ones():
    clock = Clock()
    budget = Budget(105, {"a": 1, "b": 1, "c": 2}, clock)  # 5 s belong to no part
    assert budget.limit("a") == pytest.approx(25)
    clock.now += 10
    assert budget.limit("b") == pytest.approx(90 / 3)
    clock.now += 30
    assert budget.limit("c") == pytest.approx(60)
    clock.now += 61
    assert budget.limit("c") == 0
    assert budget.elapsed() == pytest.approx(101)


def part(name, share=1.0, missing=None, code="", problem=None, result=None):
    """Return a part that runs a line of Python."""
    return Part(
        *(name, f"about {name}", share, lambda *_: [sys.executable, "-c", code]),
        *(lambda _: missing, lambda _: result, lambda _: problem),
    )


def start_run(folder, parts, **options):
    settings = {"minutes": 1.0, "say": lambda _: None, **options}
    return Run("cuda-emulator", parts, folder, **settings)


def test_parts_get_their_limits_and_a_skipped_part_leaves_its_time(tmp_path):
    clock, limits = Clock(), {}
    used = {"a": 10.0, "c": 13.0, "d": 31.5}

    def process(command, log, seconds, *_):
        limits[log.stem] = seconds
        clock.now += used[log.stem]
        return Outcome(0, used[log.stem], False)

    parts = [part("a"), part("b", 2, missing="no tool"), part("c"), part("d"), part("e")]
    lines = []
    options = {"minutes": 1.0, "clock": clock, "run": process, "say": lines.append}
    run = start_run(tmp_path, parts, **options)
    run.run()
    assert limits == pytest.approx({"a": 55 / 6, "c": 45 / 3, "d": 32 / 2})
    states = {name: (state["state"], state["reason"]) for name, state in run.states.items()}
    assert states == {
        "a": ("done", ""),
        "b": ("skipped", "no tool"),
        "c": ("done", ""),
        "d": ("done", ""),
        "e": ("skipped", "0.5 seconds of the time are left for it"),
    }
    assert "2/5 b: skipped, no tool" in lines


# --------------------------------------------------------------------------------------- processes
def limited(tmp_path, code, seconds=20.0, tick=lambda elapsed: None):
    command = [sys.executable, "-c", code]
    return run_limited(command, tmp_path / "p.log", seconds, tmp_path, dict(os.environ), tick)


def test_output_and_status_of_a_process(tmp_path):
    code = "import os, sys; print(os.getcwd()); print('no', file=sys.stderr); sys.exit(3)"
    outcome = limited(tmp_path, code)
    assert (outcome.status, outcome.was_cut_off) == (3, False)
    assert sorted((tmp_path / "p.log").read_text().splitlines()) == sorted([str(tmp_path), "no"])
    killed = limited(tmp_path, "import os; os.kill(os.getpid(), 11)")
    assert (killed.status, killed.was_cut_off) == (-signal.SIGSEGV, False)


def test_a_process_at_its_limit_is_interrupted_and_its_output_stays(tmp_path):
    ticks = []
    code = "import time\nprint('begun', flush=True)\ntry: time.sleep(99)\nfinally: print('ended')"
    outcome = limited(tmp_path, code, 2.0, ticks.append)
    assert outcome.was_cut_off
    assert 2 <= outcome.seconds < 6
    assert len(ticks) >= 3
    assert ticks == sorted(ticks)
    text = (tmp_path / "p.log").read_text()
    assert text.startswith("begun\n")
    assert "ended\n" in text


@needs_proc
def test_a_process_that_ignores_interrupts_is_killed_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr("minigan.bench.gpu.process.GRACE_SECONDS", 0.5)
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    outcome = limited(tmp_path, code, 3.0)
    assert outcome.status == -signal.SIGKILL
    assert_ended(int((tmp_path / "p.log").read_text()))


@needs_proc
def test_children_that_outlive_a_process_are_ended(tmp_path):
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid)\n"
    )
    assert limited(tmp_path, code).status == 0
    assert_ended(int((tmp_path / "p.log").read_text()))


def assert_ended(pid):
    """Check that a process ends within seconds; one that nobody waits for stays a zombie."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in "ZX":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def test_ends_of_parts_and_what_is_written_after_each(tmp_path):
    parts = [
        part("good", result={"cases": 2}),
        part("wrong", code="print('  the error\\n'); raise SystemExit(4)"),
        part("crash", code="import os; os.abort()"),
        part("tests", problem="1 tests failed, first x", result=logs.count_tests(tmp_path / "no")),
        part("slow", 0.1, code="import time; time.sleep(60)"),
        part("last"),
    ]
    written = []

    def say(line):
        record = json.loads((tmp_path / "summary.json").read_text())
        written.append([state["state"] for state in record["parts"].values()])

    run = start_run(tmp_path, parts, minutes=0.5, say=say)
    run.run()
    assert run.has_problems()
    reasons = {name: (x["state"], x["reason"].rstrip()) for name, x in run.states.items()}
    assert reasons == {
        "good": ("done", ""),
        "wrong": ("failed", "exit status 4: the error"),
        "crash": ("failed", "ended by SIGABRT:"),
        "tests": ("failed", "1 tests failed, first x"),
        "slow": ("cut off", "its time was over"),
        "last": ("done", ""),
    }
    assert written[0] == ["running", *["not reached"] * 5]
    assert written[1] == ["done", *["not reached"] * 5]
    assert written[-1][-1] == "done"
    assert "| wrong: about wrong | failed |" in (tmp_path / "summary.md").read_text()


def test_summary_lists_failures_and_what_was_measured_no_further(tmp_path):
    reason = "RuntimeError: no kernel image"
    counts = {"selected": None, "passed": 1, "failed": 2, "skipped": 0, "failures": ["b", "a"]}
    found = {"errors": None, "reports": ["Invalid read"], "tests": {**counts, "failures": ["c"]}}
    measured = {
        "cases": 3,
        "failed": {},
        "skipped": {"exp": {"PyTorch": reason}, "sum": {"PyTorch": reason, "cpu": "too slow"}},
    }
    parts = [
        part("kernels", result=measured),
        part("tests", result=counts),
        part("memcheck", result=found),
    ]
    start_run(tmp_path, parts).run()
    text = (tmp_path / "summary.md").read_text()
    for line in (
        "| kernels: about kernels | done | ",
        "| 3 cases |",
        "| 1 passed, 2 failed, 0 skipped of an unknown number tests |",
        "| 1 reports so far; 1 passed, 2 failed, 0 skipped of an unknown number tests |",
        "order of time (tests.log has the errors):\n\n    b\n    a\n",
        "order of time (memcheck.log has the errors):\n\n    c\n",
        f"- kernels, PyTorch: {reason} (exp, sum)\n- kernels, cpu: too slow (sum)\n",
    ):
        assert line in text


@pytest.mark.parametrize("predicted", [{"add": 4800.0}, "none: no disassembler"])
def test_summary_has_the_prediction_beside_the_largest_size(tmp_path, predicted):
    """Speeds of machine.json, in GB/s; or the reason why there are none."""
    seconds = {"cuda": [1e-4, 1e-4], "copy": [9e-5, 9e-5]}
    cases = [{"size": n, "work": 12 * n, "seconds": seconds} for n in (1000, 10**8)]
    kernels = {"series": {"add": cases}, "failed": {}, "skipped": {"add": {}}}
    (tmp_path / "kernels.json").write_text(json.dumps(kernels))
    (tmp_path / "machine.json").write_text(json.dumps({"predicted": predicted}))
    rows = summary._kernels(tmp_path, "cuda").splitlines()
    assert rows[0].endswith("| predicted |")
    assert rows[2].endswith("| - |")
    assert rows[3].endswith("| 4800 |" if isinstance(predicted, dict) else "| - |")
    assert "predicted from machine code, not measured" in rows[-1]
    assert ("(none: no disassembler)" in rows[-1]) == isinstance(predicted, str)


def test_a_file_of_an_unforeseen_form_does_not_end_the_run(tmp_path):
    (tmp_path / "kernels.json").write_text("[1]")
    run = start_run(tmp_path, [part("a"), part("b")])
    run.run()
    assert [state["state"] for state in run.states.values()] == ["done", "done"]
    record = json.loads((tmp_path / "summary.json").read_text())
    assert [state["state"] for state in record["parts"].values()] == ["done", "done"]
    assert "The summary cannot be made: AttributeError" in (tmp_path / "summary.md").read_text()


# -------------------------------------------------------------------------------------------- logs
TESTS = """
import pytest
@pytest.mark.parametrize("x", [1, "a b"])
def test_good(x): pass
def test_bad(): assert 0
def test_skipped(): pytest.skip("why")
@pytest.fixture
def broken(): raise ValueError
def test_error(broken): pass
@pytest.mark.xfail
def test_expected(): assert 0
"""


@pytest.mark.parametrize("processes", ["0", "1"])
def test_counts_of_a_log_of_pytest(tmp_path, processes):
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    command = [sys.executable, "-m", "pytest", "-v", "-n", processes, "-k", "not nothing"]
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    log = tmp_path / "t.log"
    run_limited(command, log, 60, tmp_path, environment, lambda elapsed: None)
    counts = logs.count_tests(log)
    failures = sorted(counts.pop("failures"))
    assert failures == ["test_some.py::test_bad", "test_some.py::test_error"]
    assert counts == {"selected": 6, "passed": 2, "failed": 2, "skipped": 2}
    half = "\n".join(log.read_text().split("\n")[:-25])
    log.write_text(half[: half.index("test_bad")] + "test_bad")
    assert logs.count_tests(log)["passed"] == 2
    assert logs.count_tests(log)["failed"] == 0


def test_a_file_that_cannot_be_imported_counts_as_a_failure(tmp_path):
    (tmp_path / "test_some.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "pytest.ini").write_text("[pytest]")
    command = [sys.executable, "-m", "pytest", "-v", "-n", "0"]
    run_limited(command, tmp_path / "t.log", 60, tmp_path, dict(os.environ), lambda elapsed: None)
    assert logs.count_tests(tmp_path / "t.log")["failures"] == ["test_some.py"]


REPORT = """========= COMPUTE-SANITIZER
============================= test session starts ==============================
collected 2 items / 1 deselected / 1 selected
========= Invalid __global__ read of size 4 bytes
=========     at saxpy(float*)+0x90
=========     by thread (31,0,0) in block (0,0,0)
=========
========= Error: process didn't terminate successfully
========= 1 passed, 1 deselected in 0.54s =========
"""


def test_errors_of_a_log_of_compute_sanitizer(tmp_path):
    log = tmp_path / "m.log"
    assert logs.count_errors(log)["errors"] is None
    log.write_text(REPORT)
    reports = [
        "Invalid __global__ read of size 4 bytes",
        "Error: process didn't terminate successfully",
    ]
    assert logs.count_errors(log)["reports"] == reports
    assert logs.count_errors(log)["errors"] is None
    assert logs.count_errors(log)["tests"]["selected"] == 1
    assert PARTS["memcheck"].problem(logs.count_errors(log)) == f"2 errors, first: {reports[0]}"
    for line, count in {
        "ERROR SUMMARY: 12 errors": 12,
        "ERROR SUMMARY: 0 errors": 0,
        "RACECHECK SUMMARY: 3 hazards displayed (2 errors, 1 warning) ": 3,
    }.items():
        log.write_text(f"{REPORT}========= {line}\n")
        assert logs.count_errors(log)["errors"] == count
        assert logs.count_errors(log)["reports"] == reports


# ----------------------------------------------------------------------------------------- targets
def measured(device, seconds, **fields):
    return {**fields, "seconds": {device: [1.0] * 3, **{k: [x] * 3 for k, x in seconds.items()}}}


def write(path, series, skipped=None, failed=None, torch="2"):
    result = {"machine": {"packages": {"torch": torch}}, "series": series}
    result |= {"skipped": skipped or {}, "failed": failed or {}}
    path.write_text(json.dumps(result))


DONE = {name: {"state": "done", "reason": ""} for name in ("kernels", "steps")}


def evaluate(folder, parts=DONE):
    return {x["target"].split(",")[0]: x for x in targets.evaluate("cuda", folder, parts)}


def test_sizes_of_the_targets_on_a_gpu():
    plan = SETTINGS["cuda"].kernels
    assert plan.edges[-1] == 4096
    assert plan.elements[-1] == 2**26
    assert SETTINGS["cuda"].sizes == DevicePlan()  # as `minigan bench --devices` measures
    assert sorted(KERNEL_ORDER) == sorted(KERNELS)
    assert {x.series for x in targets.targets("cuda")} <= {*KERNELS, "step"}
    for target in targets.targets("cuda"):
        if target.series != "step":
            cases = KERNELS[target.series].cases(target.series, plan)
            assert any(target.case.items() <= case.items() for case in cases)
    tasks = SETTINGS["cuda"].steps.tasks
    assert [(name, task.batches) for name, task in tasks.items()][:2] == [
        ("MLP", (64,)),
        ("DCGAN", (64,)),
    ]


def test_targets_are_met_or_missed(tmp_path):
    kernels = {
        "matmul": [
            measured("cuda", {"cuBLAS": 9.0}, size=1024),
            measured("cuda", {"cuBLAS": 0.8}, size=4096),
        ],
        "add": [measured("cuda", {"PyTorch": 9.0, "copy": 0.849}, size=2**26)],
        "transpose": [measured("cuda", {"copy": 0.851}, size=2**26)],
    }
    write(tmp_path / "kernels.json", kernels)
    graph = "PyTorch, CUDA graph"
    steps = [
        measured("cuda", {"PyTorch": 99.0, graph: 99.0}, task="MLP", batch=128),
        measured("cuda", {"PyTorch": 10.5, graph: 1.4}, task="MLP", batch=64),
        measured("cuda", {"PyTorch": 5.0, graph: 1.0}, task="DCGAN", batch=64),
    ]
    write(tmp_path / "steps.json", {"step": steps})
    lines = targets.evaluate("cuda", tmp_path, DONE)
    states = [(x["state"], x.get("ratio")) for x in lines]
    assert states == [
        ("met", 0.8),
        ("not measured", None),  # LeakyReLU
        ("missed", 0.849),
        ("not measured", None),  # exp
        ("not measured", None),  # Adam
        ("met", 0.851),
        ("met", 10.5),
        ("missed", 1.4),
        ("met", 1.0),
    ]
    assert targets.describe(lines[0])[1:] == [">= 0.800", "0.800", "0.800..0.800", "met"]


def test_the_reason_is_that_of_the_contender_that_has_no_time(tmp_path):
    """Measure the device at this batch, where PyTorch is missing, but not at a later one."""
    case = measured("cuda", {}, task="MLP", batch=64)
    skipped = {"step": {"cuda": "too slow", "PyTorch": "no kernel image"}}
    write(tmp_path / "steps.json", {"step": [case]}, skipped)
    reasons = [x["reason"] for x in targets.evaluate("cuda", tmp_path, DONE)[-3:]]
    assert reasons == [
        "PyTorch: no kernel image",
        "there is no time of PyTorch, CUDA graph",
        "cuda: too slow",
    ]


@pytest.mark.parametrize(
    ("file", "state", "reason"),
    [
        (None, ("skipped", "no tool"), "part kernels: skipped: no tool"),
        (None, ("not reached", ""), "part kernels: not reached"),
        ({}, ("cut off", "its time was over"), "part kernels: cut off: its time was over"),
        (
            {"failed": {"matmul": "KernelError: x"}},
            ("failed", "y"),
            "matmul failed: KernelError: x",
        ),
        ({"skipped": {"matmul": {"cuBLAS": "z"}}}, ("done", ""), "cuBLAS: z"),
        ({"skipped": {"matmul": {"cuda": "z"}}}, ("done", ""), "cuda: z"),
        ({"torch": None}, ("done", ""), "PyTorch is not installed"),
        ({}, ("done", ""), "there is no time of cuda or cuBLAS or cuDNN or PyTorch"),
    ],
)
def test_a_target_that_was_not_measured_has_a_reason(tmp_path, file, state, reason):
    if file is not None:
        write(tmp_path / "kernels.json", {"matmul": []}, **file)
    parts = {**DONE, "kernels": dict(zip(("state", "reason"), state, strict=True))}
    line = targets.evaluate("cuda", tmp_path, parts)[0]
    assert (line["state"], line["reason"]) == ("not measured", reason)
    assert targets.describe(line)[-1] == f"not measured: {reason}"
