"""`minigan bench`: options, threads, interleaved timing, tables. No time is asserted."""

import io
import json
import sys
from types import SimpleNamespace

import numba
import numpy as np
import pytest

import minigan as mg
from minigan import bench
from minigan.bench import machine, tasks, timing
from minigan.bench.peers import blas, load
from minigan.bench.plan import Plan, Task
from minigan.bench.table import format_number, format_quartiles, format_table
from minigan.bench.timing import Group, Quartiles, geometric_mean, measure, ratio
from minigan.gan.models import Perceptrons

TASKS = {
    "ring": Task(Perceptrons("", (4,), (3,), 2), (2,), (2,)),
    "MLP": Task(Perceptrons("", (5,), (5,), 4), (1, 2, 3), (2, 3)),
}
TINY = Plan(TASKS, 8, matmul_seconds=0, step_seconds=0, rest_seconds=0)


@pytest.fixture
def without_peers(monkeypatch):
    for name in ("torch", "jax"):
        monkeypatch.setitem(sys.modules, name, None)  # import torch raises ImportError


def run(names=(), **options):
    """Return what `bench.run` returns and what it prints."""
    output = io.StringIO()
    result = bench.run(names, **{"repeats": 2, "output": output, "plan": TINY, **options})
    return result, output.getvalue()


# --------------------------------------------------------------------------------------- whole runs
def test_default_benchmarks_run_and_json_has_every_sample(tmp_path, without_peers):
    path = tmp_path / "bench.json"
    result, text = run(json_path=path)
    assert json.loads(path.read_text()) == result
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]
    assert result["plan"]["tasks"]["MLP"]["batches"] == [2, 3]
    assert len(result["matmul"]) == 2 * 4 * 3 + 1  # batches, layers, transposes, and the square
    assert [case["batch"] for case in result["step"]] == [2, 2, 3]
    for case in result["matmul"] + result["step"]:
        for samples in case["seconds"].values():
            assert len(samples) == 2
            assert min(samples) > 0
    assert f"numpy {np.__version__} ({blas.describe()}), numba {numba.__version__}" in text
    assert text.index("processor") < text.index("matmul:") < text.index("step:")


@pytest.mark.parametrize("name", ["matmul", "step"])
def test_one_benchmark_runs_once(name, without_peers):
    result, text = run([name, name])
    assert set(result) == {"machine", "repeats", "plan", name}
    assert text.count(f"{name}:") == 1


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["memry"], {}, r"unknown benchmark 'memry'; did you mean 'memory'\? \(accepted: matmul, "),
        (["matmul", "steps"], {}, "unknown benchmark 'steps'; did you mean 'step'"),
        (["step"], {"tasks": ["rnig"]}, "unknown task 'rnig'; did you mean 'ring'"),
        (["step", "conv"], {"tasks": ["ring"]}, "ring need step as the only .*, not step, conv"),
        ([], {"repeats": 0}, "repeats = 0 is not a positive"),
        ([], {"threads": 0}, "threads = 0 is not between 1 and"),
        ([], {"threads": 10**6}, "threads = 1000000 is not between 1 and"),
        ([], {"json_path": "no/such/folder/bench.json"}, "there is no folder"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_measured(names, options, message):
    output = io.StringIO()
    with pytest.raises(ValueError, match=message):
        bench.run(names, **{"repeats": 1, "output": output, "plan": TINY, **options})
    assert output.getvalue() == ""


def test_steps_run_on_cpu_whatever_the_current_device(monkeypatch, without_peers):
    devices, build = [], tasks.minigan_step

    def spy(task, networks, batch, **options):
        devices.extend(x.device.name for net in networks for x in net.parameters())
        return build(task, networks, batch, **options)

    monkeypatch.setattr("minigan.bench.steps.minigan_step", spy)
    with mg.use_device("reference"):
        run(["step"])
    assert set(devices) == {"cpu"}


def test_steps_of_chosen_tasks(without_peers):
    result, _ = run(["step"], tasks=["MLP"])
    assert {case["task"] for case in result["step"]} == {"MLP"}


def test_needed_peers_are_imported_before_numba_starts_threads(monkeypatch):
    order, count_threads = [], bench.thread_count

    def spy(*arguments):
        order.append("threads")
        return count_threads(*arguments)

    monkeypatch.setattr(bench, "thread_count", spy)
    monkeypatch.setattr(bench, "load", order.append)
    run(["step"])
    run(["matmul"])
    assert order == ["pytorch", "xla", "threads", "threads"]


def test_run_restores_threads_device_and_random_state(without_peers):
    before = mg.random.default_generator().state(), numba.get_num_threads(), _blas_threads()
    with mg.use_device("reference") as device:
        run(["step"], threads=1)
        assert mg.tensor([1.0]).device is device
    after = mg.random.default_generator().state(), numba.get_num_threads(), _blas_threads()
    assert after == before


def test_short_run_shows_no_progress_bar(capsys, without_peers):
    run(["matmul"])
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------------------------ the machine
def _blas_threads():
    count = blas.openblas("get_num_threads")
    return None if count is None else count()


@pytest.mark.parametrize("threads", [1, 2])
def test_all_contenders_use_the_same_number_of_threads(threads):
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"NUMBA_NUM_THREADS = {numba.config.NUMBA_NUM_THREADS}")
    peers = [peer for peer in map(load, ("pytorch", "xla")) if peer is not None]
    with machine.thread_count(threads, *peers) as count:
        assert count == numba.get_num_threads() == threads
        assert _blas_threads() in (threads, None)
        assert {peer.get_threads() for peer in peers} <= {threads}


def test_header_names_missing_packages_and_a_busy_machine():
    described = {
        "processor": "P, 2 cores",
        "vector_bits": 256,
        "limits": {},
        "threads": 2,
        "load": 3.5,
        "kernels": "abc",
        "python": "3.11.7",
        "packages": {"numpy": "2.4.6", "torch": None},
        "blas": "accelerate",
        "blas_threads_set": False,
    }
    assert machine.header(described).splitlines() == [
        "processor  P, 2 cores, 256-bit vectors",
        "threads    2 for each contender; numpy's BLAS chooses its own number",
        "versions   Python 3.11.7, numpy 2.4.6 (accelerate), torch not installed",
        "kernels    abc",
        "busy       load 3.5 before the start; times will vary",
    ]
    assert "busy" not in machine.header({**described, "load": 0.1})


# ----------------------------------------------------------------------------------------- timing
class Clock:
    """A clock that advances only in calls and sleeps; threads may spin in sleeps for a while."""

    def __init__(self, monkeypatch, spinning=0.0):
        self.now, self.used, self.spinning, self.log = 0.0, 0.0, spinning, []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing.time, "process_time", lambda: self.used)
        monkeypatch.setattr(timing.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.now += seconds
        spun = min(seconds, self.spinning)
        self.used += spun
        self.spinning -= spun
        self.log.append("sleep")

    def call(self, name, *durations):
        """Return a function whose calls take these durations, later ones the last duration."""
        remaining = list(durations)

        def advance():
            self.now += remaining.pop(0) if len(remaining) > 1 else remaining[0]
            if self.log[-1] != name:
                self.log.append(name)

        return advance


def test_rounds_are_interleaved_with_sleeps_before_each_contender(monkeypatch):
    clock, ticks = Clock(monkeypatch), []
    calls = {"A": [clock.call("A", 0.25)], "B": [clock.call("B", 0.5)]}
    cases = measure(Group([{"case": 1}], calls, 10.0), 3, 0.125, lambda: ticks.append(clock.now))
    one_round = ["sleep", "sleep", "A", "sleep", "sleep", "B"]
    assert clock.log == one_round * 4  # the first one counts the calls of a chunk
    assert len(ticks) == 6
    assert cases == [{"case": 1, "seconds": {"A": [0.25] * 3, "B": [0.5] * 3}}]
    assert ratio(cases[0], "B", own="A") == Quartiles(2.0, 2.0, 2.0)
    # 10 s of a contender: 4 calls of 0.25 s are a chunk of 1 s; two chunks are not counted.
    assert np.diff(ticks)[0] == 2 * 0.125 + 2 + 10


@pytest.mark.parametrize(("spinning", "sleeps"), [(0, 2), (0.125, 3), (0.5, 6), (1e9, 50)])
def test_sleeps_end_when_two_in_a_row_used_no_processor_time(monkeypatch, spinning, sleeps):
    clock = Clock(monkeypatch, spinning)
    timing._wait_until_idle(0.125)
    assert clock.log == ["sleep"] * sleeps


def test_sample_ignores_one_delayed_call(monkeypatch):
    clock = Clock(monkeypatch)
    clock.log.append("")
    slow_first = [9.0, 9.0, 1.0, 50.0, 1.0]
    assert timing._sample(clock.call("A", *slow_first), 1, 100.0) == 1.0


def test_ratio_has_the_quartiles_of_the_rounds_ratios():
    case = {"seconds": {"minigan": [1.0, 2.0, 4.0], "peer": [3.0, 2.0, 8.0]}}
    assert ratio(case, "peer") == Quartiles(median=2.0, low=1.5, high=2.5)
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)


def test_times_include_asynchronous_work(monkeypatch):
    clock, pending = SimpleNamespace(now=0.0), []
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)

    def start():
        clock.now += 0.25
        pending.append(1)

    def wait():
        clock.now += 0.5 * len(pending)
        pending.clear()

    group = Group([{}], {"A": [start], "B": [start]}, 10.0, {"A": wait})
    (case,) = measure(group, 2, 0, pending.clear)
    assert case["seconds"] == {"A": [0.75] * 2, "B": [0.25] * 2}


# ----------------------------------------------------------------------------------------- tables
def test_table_columns_are_aligned():
    rows = [["a", "1.5", "x"], ["long", "10", ""]]
    assert format_table(["name", "ms", ""], rows).splitlines() == [
        "name   ms",
        "a     1.5  x",
        "long   10",
    ]
    with pytest.raises(ValueError, match="a row has 1 cells, the heads 2"):
        format_table(["a", "b"], [["1"]])


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0012345, "0.00123"),
        (0.9996, "1.00"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (12345.6, "12346"),
        (0.0, "0"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_three_significant_digits(x, text):
    assert format_number(x) == text


def test_quartiles_take_two_cells():
    assert format_quartiles(Quartiles.of([4.0, 1.0, 2.0, 3.0, 5.0])) == ["3.00", "2.00..4.00"]
