"""`minigan bench kernels`: calls, lower bounds, report and figure. No time is asserted."""

import io
import json
from itertools import combinations

import numpy as np
import pytest
from helpers import assert_close
from PIL import Image

from minigan import bench
from minigan.bench import matmul, roofline, roofline_figure
from minigan.bench.kernels import KERNELS
from minigan.bench.plan import Plan, Task
from minigan.cli.commands import main
from minigan.engine.device import get_device
from minigan.gan.models import Perceptrons
from minigan.kernels.runtime.cpu import peak

TASK = Task(Perceptrons("", (5,), (5,), 4), (6,), (2, 3))
TINY = Plan(
    {"MLP": TASK}, rest_seconds=0, cached_bytes=65_536, uncached_bytes=200_000, kernel_seconds=0
)
MOVING = {"transpose", "gather"}
PEAKS = {
    "flops_per_second": 100.0,
    "bandwidths": [[10, 50.0], [100, 20.0], [1000, 30.0]],
    "levels": {"L1": 10, "L2": 100, "memory": 1000},
}


@pytest.fixture
def fast_peaks(monkeypatch):
    monkeypatch.setattr(peak, "MIN_BURST_SECONDS", 1e-5)
    monkeypatch.setattr(peak, "BURST_COUNT", 1)


# --------------------------------------------------------------------------------------- whole runs
def test_every_kernel_is_measured_printed_drawn_and_written(tmp_path, fast_peaks):
    files = {"json_path": tmp_path / "b.json", "figure_path": tmp_path / "b.png"}
    output = io.StringIO()
    result = bench.run(["kernels"], repeats=2, output=output, plan=TINY, threads=1, **files)
    assert json.loads(files["json_path"].read_text()) == result
    kernels, text = result["kernels"], output.getvalue()
    for section, size in (("cached", 65_536), ("memory", 200_000)):
        chosen = [case for case in kernels["cases"] if case["section"] == section]
        assert {case["kernel"] for case in chosen} == set(KERNELS)
        assert all(size / 2 < case["operand_bytes"] <= size for case in chosen)
    products = [case for case in kernels["cases"] if case["section"] == "products"]
    assert len(products) == 4 * 3
    for case in kernels["cases"]:
        peers = ["numpy"] if case["kernel"] in roofline.PEERS else []
        assert list(case["seconds"]) == ["minigan", *peers]
        assert all(len(x) == 2 and min(x) > 0 for x in case["seconds"].values())
        assert (case["flops"] == 0) == (case["kernel"] in MOVING)
        assert f"\n{case['label']} " in text
    assert kernels["levels"] == {"L1": peak.CACHED_BYTES, "L2": 65_536, "memory": 200_000}
    with Image.open(files["figure_path"]) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 800
        assert len(picture.convert("RGB").getcolors(2**24)) > 100


@pytest.mark.parametrize("names", [[], ["memory"], ["kernels", "conv"], ["kernels", "step"]])
def test_figure_is_refused_for_other_benchmarks(names, tmp_path):
    output, path = io.StringIO(), tmp_path / "b.png"
    with pytest.raises(ValueError, match="shows one benchmark, kernels") as error:
        bench.run(names, output=output, plan=TINY, figure_path=path)
    assert str(error.value).endswith(", ".join(names or ["matmul", "step"]))
    assert output.getvalue() == ""
    assert not path.exists()


def test_command_writes_a_figure(monkeypatch, capsys, tmp_path, fast_peaks):
    monkeypatch.setattr(bench, "Plan", lambda: TINY)
    path = tmp_path / "b.png"
    arguments = ["bench", "kernels", "--repeats", "1", "--threads", "1", "--figure", str(path)]
    assert main(arguments) == 0
    assert "fused multiply-adds" in capsys.readouterr().out
    assert path.exists()


# ---------------------------------------------------------------------------------------- calls
@pytest.mark.parametrize("name", sorted(set(roofline.PEERS) - {"normal"}))
def test_numpy_computes_what_the_kernel_computes(name):
    case, arrays = roofline._largest_case(name, "cached", 5000)
    arrays[0] = arrays[0][::-1].copy()  # operands of a kernel are equal
    own = KERNELS[name].call(get_device("cpu"), arrays)()
    call = roofline.PEERS[name](*arrays)
    out = call()
    if name == "transpose":
        out = call.args[0]
    assert_close(np.ravel(out), np.ravel(own), 1e-4)
    moved = sum(x.nbytes for x in arrays) + (own.nbytes if own.size > 1 else 0)
    assert case["operand_bytes"] == case["bytes"] == moved


def test_numpy_draws_as_many_normal_numbers_as_the_kernel():
    case, arrays = roofline._largest_case("normal", "cached", 5000)
    out = roofline.PEERS["normal"](*arrays)()
    assert out.dtype == np.float32
    assert out.shape == (case["size"],)
    assert out.std() > 0.9


def test_replay_runs_the_kernel_again():
    case, (p, g, *moments, state) = roofline._largest_case("adam", "cached", 5000)
    assert case["operand_bytes"] == sum(x.nbytes for x in (p, g, *moments))
    assert case["bytes"] == 7 * p.nbytes  # four are read, three are written
    call = roofline.KERNELS["adam"].call(get_device("cpu"), [p, g, *moments, state])
    replay = roofline.replayed(call)
    for _ in range(3):
        before = p.copy()
        replay()
        assert (p != before).mean() > 0.9
    assert state[1] == pytest.approx(0.5**4)  # a power of beta1: one step recorded, three replayed


def test_products_are_those_of_the_gan():
    cases = [case for case, _ in roofline._products(TINY)]
    shapes = {(case["size"], case["bytes"], case["flops"]) for case in cases}
    for _, _, a, b in matmul.products(TASK, 2):
        out = np.empty((len(a), b.shape[1]), a.dtype)
        flops = sum(2 * len(column) for _ in a for column in b.T)
        assert (len(a), a.nbytes + b.nbytes + out.nbytes, flops) in shapes


# ---------------------------------------------------------------------------------------- bounds
@pytest.mark.parametrize(
    ("size", "rate"), [(1, 50), (10, 50), (11, 30), (100, 30), (1000, 30), (1001, 30)]
)
def test_bandwidth_is_that_of_the_memory_that_holds_the_operands(size, rate):
    assert roofline.bandwidth(PEAKS, size) == rate


def test_best_of_several_peaks_is_taken_for_each_rate():
    other = {
        **PEAKS,
        "flops_per_second": 90.0,
        "bandwidths": [[10, 40.0], [100, 45.0], [1000, 31.0]],
    }
    best = roofline.best_peaks([PEAKS, other])
    assert best["flops_per_second"] == 100
    assert best["bandwidths"] == [[10, 50], [100, 45], [1000, 31]]
    assert best["levels"] == PEAKS["levels"]


@pytest.mark.parametrize(
    ("flops", "moved", "operand_bytes", "seconds"),
    [(1000, 50, 10, 10), (1000, 5000, 10, 100), (0, 300, 1000, 10), (1, 300, 1000, 10)],
)
def test_bound_is_the_longer_of_arithmetic_and_memory_traffic(flops, moved, operand_bytes, seconds):
    case = {"flops": flops, "bytes": moved, "operand_bytes": operand_bytes}
    case["seconds"] = {"minigan": [2 * seconds] * 3}
    assert roofline.lower_bound(PEAKS, case) == seconds
    assert roofline.fraction_of_bound(PEAKS, case).median == 0.5


def _case(name, flops, moved, seconds, **peers):
    return {
        "kernel": name, "label": name, "section": "cached", "size": 7, "bytes": moved,
        "operand_bytes": moved, "flops": flops,
        "seconds": {"minigan": [seconds], **{k: [x] for k, x in peers.items()}},
    }  # fmt: skip


def test_row_names_the_limit():
    rows = [
        roofline._row(PEAKS, _case("exp", 10**12, 2**10 * 10**6, 10**10 * 5.0, numpy=10**11)),
        roofline._row(PEAKS, _case("copy", 0, 3072, 204.8)),
    ]
    assert rows[0][:3] == ["exp", "7", "1000000"]
    assert rows[0][6:] == ["0.000000100 (fma)", "0.200", "0.200..0.200", "2.00", "2.00..2.00"]
    assert rows[1][3:6] == ["0", "-", "0.0000000150"]
    assert rows[1][6:] == ["0.0000000300 (bytes)", "0.500", "0.500..0.500", "-", ""]


# -------------------------------------------------------------------------------------- figure
def test_labels_do_not_overlap(monkeypatch, tmp_path):
    texts, write_labels = [], roofline_figure.write_labels

    def spy(axes, labels):
        write_labels(axes, labels)
        axes.figure.canvas.draw()
        texts.extend((x.get_text(), x.get_window_extent()) for x in axes.texts)

    monkeypatch.setattr(roofline_figure, "write_labels", spy)
    cases = [
        {**_case(name, flops * 10**6, 10**6, seconds), "section": section}
        for i, name in enumerate(["add", "leaky_relu", "sum", "adam", "matmul"])
        for flops in [0.1 * 1.3**i]
        for section, seconds in (("cached", 1e-4), ("memory", 3e-4))
    ]
    cases += [{**x, "section": "products", "label": f"p{i}"} for i, x in enumerate(cases[-4:])]
    rates = {"L1": 4e11, "L2": 3e11, "memory": 5e10}
    roofline_figure.draw(2e11, rates, cases, tmp_path / "b.png")
    labels = [x for x in texts if x[0] in {case["label"] for case in cases}]
    assert len(labels) == 5 + 2
    for (one, box), (other, around) in combinations(texts, 2):
        are_peaks = "/s" in one and "/s" in other  # The boxes of sloping texts are too large.
        assert are_peaks or not box.overlaps(around), (one, other)
