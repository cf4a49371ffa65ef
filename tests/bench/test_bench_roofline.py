"""`minigan bench kernels` puts kernels below the right roofs. No time is asserted."""

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
from minigan.bench.plan import Game, Plan
from minigan.cli.commands import main
from minigan.engine.device import get_device
from minigan.gan.models import Perceptrons
from minigan.kernels.runtime.cpu import peak

GAME = Game(Perceptrons("", (5,), (5,), 4), (6,), (2, 3))
TINY = Plan(
    {"MLP": GAME}, rest_seconds=0, cached_bytes=65_536, uncached_bytes=200_000, kernel_seconds=0
)
MOVING = {"transpose", "gather"}
PEAKS = {
    "fma": 100.0,
    "bandwidths": [[10, 50.0], [100, 20.0], [1000, 30.0]],
    "levels": {"L1": 10, "L2": 100, "memory": 1000},
}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(peak, "BURST", 1e-5)
    monkeypatch.setattr(peak, "BURSTS", 1)


# --------------------------------------------------------------------------------------- the whole
def test_every_kernel_is_measured_printed_drawn_and_kept(tmp_path, quick):
    files = {"json_path": tmp_path / "b.json", "figure_path": tmp_path / "b.png"}
    output = io.StringIO()
    result = bench.run(["kernels"], repeats=2, output=output, plan=TINY, threads=1, **files)
    assert json.loads(files["json_path"].read_text()) == result
    found, text = result["kernels"], output.getvalue()
    for place, size in (("cached", 65_536), ("memory", 200_000)):
        chosen = [case for case in found["cases"] if case["place"] == place]
        assert {case["kernel"] for case in chosen} == set(KERNELS)
        assert all(size / 2 < case["held"] <= size for case in chosen)
    products = [case for case in found["cases"] if case["place"] == "products"]
    assert len(products) == 4 * 3
    for case in found["cases"]:
        beside = ["numpy"] if case["kernel"] in roofline.PEERS else []
        assert list(case["seconds"]) == ["minigan", *beside]
        assert all(len(x) == 2 and min(x) > 0 for x in case["seconds"].values())
        assert (case["flops"] == 0) == (case["kernel"] in MOVING)
        assert f"\n{case['label']} " in text
    assert found["levels"] == {"L1": peak.CACHED, "L2": 65_536, "memory": 200_000}
    with Image.open(files["figure_path"]) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 800
        assert len(picture.convert("RGB").getcolors(2**24)) > 100


@pytest.mark.parametrize("names", [[], ["memory"], ["kernels", "modes"], ["kernels", "step"]])
def test_a_figure_is_of_one_benchmark_that_has_one(names, tmp_path):
    output, path = io.StringIO(), tmp_path / "b.png"
    with pytest.raises(ValueError, match="shows one benchmark, kernels") as error:
        bench.run(names, output=output, plan=TINY, figure_path=path)
    assert str(error.value).endswith(", ".join(names or ["matmul", "step"]))
    assert output.getvalue() == ""
    assert not path.exists()


def test_the_command_draws(monkeypatch, capsys, tmp_path, quick):
    monkeypatch.setattr(bench, "Plan", lambda: TINY)
    path = tmp_path / "b.png"
    words = ["bench", "kernels", "--repeats", "1", "--threads", "1", "--figure", str(path)]
    assert main(words) == 0
    assert "fused multiply-adds" in capsys.readouterr().out
    assert path.exists()


# ---------------------------------------------------------------------------------------- the work
@pytest.mark.parametrize("name", sorted(set(roofline.PEERS) - {"normal"}))
def test_numpy_does_what_the_kernel_does(name):
    case, arrays = roofline._sized(name, "cached", 5000)
    arrays[0] = arrays[0][::-1].copy()  # operands of a kernel are equal
    own = KERNELS[name].call(get_device("cpu"), arrays)()
    call = roofline.PEERS[name](*arrays)
    out = call()
    if name == "transpose":
        out = call.args[0]
    assert_close(np.ravel(out), np.ravel(own), 1e-4)
    moved = sum(x.nbytes for x in arrays) + (own.nbytes if own.size > 1 else 0)
    assert case["held"] == case["bytes"] == moved


def test_normal_numbers_are_as_many_as_the_kernels():
    case, arrays = roofline._sized("normal", "cached", 5000)
    out = roofline.PEERS["normal"](*arrays)()
    assert out.dtype == np.float32
    assert out.shape == (case["size"],)
    assert out.std() > 0.9


def test_a_replay_is_the_kernel_again():
    case, (p, g, *moments, state) = roofline._sized("adam", "cached", 5000)
    assert case["held"] == sum(x.nbytes for x in (p, g, *moments))
    assert case["bytes"] == 7 * p.nbytes  # four are read, three are written
    call = roofline.KERNELS["adam"].call(get_device("cpu"), [p, g, *moments, state])
    replay = roofline.replayed(call)
    for _ in range(3):
        before = p.copy()
        replay()
        assert (p != before).mean() > 0.9
    assert state[1] == pytest.approx(0.5**4)  # beta1: once as it was recorded


def test_products_are_the_gans():
    cases = [case for case, _ in roofline._products(TINY)]
    shapes = {(case["size"], case["bytes"], case["flops"]) for case in cases}
    for _, _, a, b in matmul.products(GAME, 2):
        out = np.empty((len(a), b.shape[1]), a.dtype)
        flops = sum(2 * len(column) for _ in a for column in b.T)
        assert (len(a), a.nbytes + b.nbytes + out.nbytes, flops) in shapes


# ---------------------------------------------------------------------------------------- the roof
@pytest.mark.parametrize(
    ("size", "rate"), [(1, 50), (10, 50), (11, 30), (100, 30), (1000, 30), (1001, 30)]
)
def test_the_bandwidth_is_that_of_the_memory_which_holds_it(size, rate):
    assert roofline.bandwidth(PEAKS, size) == rate


def test_the_best_of_several_peaks_is_taken_rate_by_rate():
    other = {**PEAKS, "fma": 90.0, "bandwidths": [[10, 40.0], [100, 45.0], [1000, 31.0]]}
    found = roofline.best([PEAKS, other])
    assert found["fma"] == 100
    assert found["bandwidths"] == [[10, 50], [100, 45], [1000, 31]]
    assert found["levels"] == PEAKS["levels"]


@pytest.mark.parametrize(
    ("flops", "moved", "held", "least"),
    [(1000, 50, 10, 10), (1000, 5000, 10, 100), (0, 300, 1000, 10), (1, 300, 1000, 10)],
)
def test_the_roof_is_arithmetic_or_bytes_whichever_takes_longer(flops, moved, held, least):
    case = {"flops": flops, "bytes": moved, "held": held, "seconds": {"minigan": [2 * least] * 3}}
    assert roofline.least(PEAKS, case) == least
    assert roofline.share(PEAKS, case).median == 0.5


def _case(name, flops, moved, seconds, **beside):
    return {
        "kernel": name, "label": name, "place": "cached", "size": 7, "bytes": moved, "held": moved,
        "flops": flops, "seconds": {"minigan": [seconds], **{k: [x] for k, x in beside.items()}},
    }  # fmt: skip


def test_a_row_says_what_bounds_it():
    rows = [
        roofline._row(PEAKS, _case("exp", 10**12, 2**10 * 10**6, 10**10 * 5.0, numpy=10**11)),
        roofline._row(PEAKS, _case("copy", 0, 3072, 204.8)),
    ]
    assert rows[0][:3] == ["exp", "7", "1000000"]
    assert rows[0][6:] == ["0.000000100 (fma)", "0.200", "0.200..0.200", "2.00", "2.00..2.00"]
    assert rows[1][3:6] == ["0", "-", "0.0000000150"]
    assert rows[1][6:] == ["0.0000000300 (bytes)", "0.500", "0.500..0.500", "-", ""]


# -------------------------------------------------------------------------------------- the figure
def test_no_label_covers_another(monkeypatch, tmp_path):
    texts, place = [], roofline_figure._place

    def spied(axes, labels):
        place(axes, labels)
        axes.figure.canvas.draw()
        texts.extend((x.get_text(), x.get_window_extent()) for x in axes.texts)

    monkeypatch.setattr(roofline_figure, "_place", spied)
    cases = [
        {**_case(name, flops * 10**6, 10**6, seconds), "place": where}
        for i, name in enumerate(["add", "leaky_relu", "sum", "adam", "matmul"])
        for flops in [0.1 * 1.3**i]
        for where, seconds in (("cached", 1e-4), ("memory", 3e-4))
    ]
    cases += [{**x, "place": "products", "label": f"p{i}"} for i, x in enumerate(cases[-4:])]
    rates = {"L1": 4e11, "L2": 3e11, "memory": 5e10}
    roofline_figure.draw(2e11, rates, cases, tmp_path / "b.png")
    labels = [x for x in texts if x[0] in {case["label"] for case in cases}]
    assert len(labels) == 5 + 2
    for (one, box), (other, around) in combinations(texts, 2):
        both_roofs = "/s" in one and "/s" in other  # slanted: their boxes are not they
        assert both_roofs or not box.overlaps(around), (one, other)
