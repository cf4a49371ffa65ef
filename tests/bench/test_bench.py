"""`minigan bench` measures the right things, in turns, and reports them. No time is asserted."""

import io
import json
import sys

import numba
import numpy as np
import pytest
from helpers import assert_close

import minigan as mg
from minigan import bench
from minigan.bench import games, machine, matmul, timing
from minigan.bench.peers import blas, load
from minigan.bench.plan import Game, Plan
from minigan.bench.table import cells, number, render
from minigan.bench.timing import Group, Spread, geometric_mean, measure, ratio
from minigan.gan.models import Perceptrons

GAMES = {
    "ring": Game(Perceptrons("", (4,), (3,), 2), (2,), (2,)),
    "MLP": Game(Perceptrons("", (5,), (5,), 4), (1, 2, 3), (2, 3)),
}
TINY = Plan(GAMES, 8, matmul_seconds=0, step_seconds=0, rest_seconds=0)


@pytest.fixture
def without_peers(monkeypatch):
    for name in ("torch", "jax"):
        monkeypatch.setitem(sys.modules, name, None)  # import torch raises ImportError


def run(names=(), **options):
    """(what `bench.run` returns, what it prints)"""
    output = io.StringIO()
    result = bench.run(names, **{"repeats": 2, "output": output, "plan": TINY, **options})
    return result, output.getvalue()


# --------------------------------------------------------------------------------------- the whole
def test_both_benchmarks_run_and_the_json_holds_every_sample(tmp_path, without_peers):
    path = tmp_path / "bench.json"
    result, text = run(json_path=path)
    assert json.loads(path.read_text()) == result
    assert [p.name for p in tmp_path.iterdir()] == ["bench.json"]
    assert result["plan"]["games"]["MLP"]["batches"] == [2, 3]
    assert len(result["matmul"]) == 2 * 4 * 3 + 1  # batches, layers, forms, and the square
    assert [case["batch"] for case in result["step"]] == [2, 2, 3]
    for case in result["matmul"] + result["step"]:
        for samples in case["seconds"].values():
            assert len(samples) == 2
            assert min(samples) > 0
    assert f"numpy {np.__version__} ({blas.describe()}), numba {numba.__version__}" in text
    assert text.index("processor") < text.index("matmul:") < text.index("step:")


@pytest.mark.parametrize("name", ["matmul", "step"])
def test_one_benchmark_runs_alone_and_only_once(name, without_peers):
    result, text = run([name, name])
    assert set(result) == {"machine", "repeats", "plan", name}
    assert text.count(f"{name}:") == 1


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["dense"], {}, r"unknown benchmark 'dense'; did you mean 'modes'\? \(accepted: matmul, "),
        (["matmul", "steps"], {}, "unknown benchmark 'steps'; did you mean 'step'"),
        ([], {"repeats": 0}, "repeats = 0 is not a positive"),
        ([], {"threads": 0}, "threads = 0 is not between 1 and"),
        ([], {"threads": 10**6}, "threads = 1000000 is not between 1 and"),
        ([], {"json_path": "no/such/folder/bench.json"}, "there is no folder"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_measured(names, options, message):
    output = io.StringIO()
    with pytest.raises(ValueError, match=message):
        bench.run(names, **{"repeats": 1, "output": output, "plan": TINY, **options})
    assert output.getvalue() == ""


def test_steps_run_on_the_cpu_device_whatever_the_current_one(monkeypatch, without_peers):
    devices, build = [], games.minigan_step

    def spied(generator, discriminator, data, **options):
        devices.extend(x.device.name for x in generator.parameters() + discriminator.parameters())
        return build(generator, discriminator, data, **options)

    monkeypatch.setattr("minigan.bench.steps.minigan_step", spied)
    with mg.use_device("reference"):
        run(["step"])
    assert set(devices) == {"cpu"}


def test_peers_are_loaded_before_numba_starts_threads_and_only_where_asked_for(monkeypatch):
    order, count_threads = [], bench.thread_count

    def spied(*arguments):
        order.append("threads")
        return count_threads(*arguments)

    monkeypatch.setattr(bench, "thread_count", spied)
    monkeypatch.setattr(bench, "load", order.append)
    run(["step"])
    run(["matmul"])
    assert order == ["pytorch", "xla", "threads", "threads"]


def test_a_run_leaves_threads_device_and_random_numbers_as_they_were(without_peers):
    before = mg.random.default_generator().state(), numba.get_num_threads(), _blas_threads()
    with mg.use_device("reference") as device:
        run(["step"], threads=1)
        assert mg.tensor([1.0]).device is device
    after = mg.random.default_generator().state(), numba.get_num_threads(), _blas_threads()
    assert after == before


def test_a_short_run_shows_no_bar(capsys, without_peers):
    run(["matmul"])
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------------------------ the machine
def _blas_threads():
    count = blas.openblas("get_num_threads")
    return None if count is None else count()


@pytest.mark.parametrize("threads", [1, 2])
def test_all_contenders_get_the_same_number_of_threads(threads):
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"NUMBA_NUM_THREADS = {numba.config.NUMBA_NUM_THREADS}")
    peers = [peer for peer in map(load, ("pytorch", "xla")) if peer is not None]
    with machine.thread_count(threads, *peers) as count:
        assert count == numba.get_num_threads() == threads
        assert _blas_threads() in (threads, None)
        assert {peer.get_threads() for peer in peers} <= {threads}


def test_the_header_says_what_is_missing_and_what_is_busy():
    described = {
        "processor": "P, 2 cores",
        "vector_bits": 256,
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
        "threads    2 for each contender; numpy's BLAS takes as many as it likes",
        "versions   Python 3.11.7, numpy 2.4.6 (accelerate), torch not installed",
        "kernels    abc",
        "busy       load 3.5 before the start; figures will wander",
    ]
    assert "busy" not in machine.header({**described, "load": 0.1})


# ----------------------------------------------------------------------------------------- timing
class Clock:
    """Time that passes only in calls and in sleep, where threads may go on spinning for a while."""

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
        self.log.append("rest")

    def call(self, name, *durations):
        """A function that takes the durations in turn, the last one ever after."""
        left = list(durations)

        def passes():
            self.now += left.pop(0) if len(left) > 1 else left[0]
            if self.log[-1] != name:
                self.log.append(name)

        return passes


def test_contenders_take_turns_with_a_rest_before_each(monkeypatch):
    clock, ticks = Clock(monkeypatch), []
    calls = {"A": [clock.call("A", 0.25)], "B": [clock.call("B", 0.5)]}
    found = measure(Group([{"case": 1}], calls, 10.0), 3, 0.125, lambda: ticks.append(clock.now))
    turns = ["rest", "rest", "A", "rest", "rest", "B"]
    assert clock.log == turns * 4  # the first time to count calls
    assert len(ticks) == 6
    assert found == [{"case": 1, "seconds": {"A": [0.25] * 3, "B": [0.5] * 3}}]
    assert ratio(found[0], "B", own="A") == Spread(2.0, 2.0, 2.0)
    # A turn of 10 s: 4 (8) calls of 0.25 s are a piece of 1 s; two pieces are not counted.
    assert np.diff(ticks)[0] == 2 * 0.125 + 2 + 10


@pytest.mark.parametrize(("spinning", "rests"), [(0, 2), (0.125, 3), (0.5, 6), (1e9, 50)])
def test_a_rest_lasts_until_two_sleeps_in_a_row_use_no_processor(monkeypatch, spinning, rests):
    clock = Clock(monkeypatch, spinning)
    timing._settle(0.125)
    assert clock.log == ["rest"] * rests


def test_a_sample_forgets_the_one_call_that_was_held_up(monkeypatch):
    clock = Clock(monkeypatch)
    clock.log.append("")
    slow_first = [9.0, 9.0, 1.0, 50.0, 1.0]
    assert timing._sample(clock.call("A", *slow_first), 1, 100.0) == 1.0


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    case = {"seconds": {"minigan": [1.0, 2.0, 4.0], "peer": [3.0, 2.0, 8.0]}}
    assert ratio(case, "peer") == Spread(median=2.0, low=1.5, high=2.5)
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)


# ----------------------------------------------------------------------------------------- tables
def test_a_table_lines_up():
    rows = [["a", "1.5", "x"], ["long", "10", ""]]
    assert render(["name", "ms", ""], rows).splitlines() == [
        "name   ms",
        "a     1.5  x",
        "long   10",
    ]
    with pytest.raises(ValueError, match="a row has 1 cells, the heads 2"):
        render(["a", "b"], [["1"]])


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
def test_numbers_have_three_digits(x, text):
    assert number(x) == text


def test_cells_are_median_and_quartiles():
    assert cells(Spread.of([4.0, 1.0, 2.0, 3.0, 5.0])) == ["3.00", "2.00..4.00"]


# ------------------------------------------------------------------------------------------ matmul
def test_every_product_is_what_its_case_says_and_both_contenders_agree():
    forms = set()
    for group in matmul.groups(TINY, "peer"):
        for case, own, peer in zip(group.cases, *group.calls.values(), strict=True):
            product = own()
            assert product.shape == (case["m"], case["n"])
            a, b, _ = peer.args
            transposed = "".join("NT"[not x.flags.c_contiguous] for x in (a, b))
            assert case["form"] == transposed or 1 in a.shape + b.shape
            assert_close(product, peer(), 1e-4)
            forms.add((case["layer"], case["form"]))
    layers = ["G 4-5", "G 5-6", "D 6-5", "D 5-1"]
    assert forms == {(x, y) for x in layers for y in matmul.FORMS} | {(matmul.SQUARE, "NN")}


def test_the_matmul_report():
    def case(layer, form, batch, own, peer):
        seconds = {"minigan": [own] * 3, "OpenBLAS": [peer] * 3}
        return {"batch": batch, "layer": layer, "form": form, "m": 100, "k": 200, "n": 500,
                "calls": 1, "seconds": seconds}  # fmt: skip

    cases = [
        case("G 1-2", "NN", 64, 1e-3, 2e-3),  # 2e7 operations: 20 and 10 GFLOP/s
        case("D 2-1", "NT", 64, 4e-3, 2e-3),
        case("D 2-1", "TN", 128, 1e-4, 8e-4),
        case(matmul.SQUARE, "NN", 100, 1e-4, 1e-4),
    ]
    lines = matmul.report(cases, "OpenBLAS").splitlines()
    assert "median and quartiles of 3 rounds; ratio = minigan / OpenBLAS, higher is better" in lines
    rows = [line.split() for line in lines]
    row = "G 1-2 NN 100 200 500 20.0 20.0..20.0 10.0 10.0..10.0 2.00 2.00..2.00"
    assert row.split() in rows
    assert "ratio: geometric mean 1.00, minimum 0.500 (D 2-1 NT, batch 64)" in lines
    assert lines[lines.index("all batch sizes") + 1] == (
        "ratio: geometric mean 2.00, minimum 0.500 (D 2-1 NT, batch 64)"
    )
    assert [row for row in rows if row[:1] in (["minigan"], ["OpenBLAS"])] == [
        ["minigan", "200", "200"],
        ["OpenBLAS", "200", "25.0"],
    ]
