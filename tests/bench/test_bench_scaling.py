"""`minigan bench scaling`: what grows, and what is fitted. No time asserted."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from minigan import bench
from minigan.bench import scaling
from minigan.bench.floor import multiply_adds
from minigan.bench.plan import Game, Plan
from minigan.gan.models import Perceptrons

GAME = Game(Perceptrons("", (5, 7), (5,), 4), (6,), (3,))
TINY = Plan(
    {"MLP": GAME}, step_seconds=0, rest_seconds=0, scaled_batches=(1, 2, 5), scaled_widths=(3, 8)
)
NO_TORCH = "PyTorch is not installed: nothing is measured beside it"


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch raises ImportError


def run(**options):
    output = io.StringIO()
    given = {"repeats": 2, "output": output, "plan": TINY, "threads": 1, **options}
    return bench.run(["scaling"], **given), output.getvalue()


# --------------------------------------------------------------------------------------- the whole
def test_batches_and_widths_are_measured_printed_drawn_and_kept(tmp_path, without_torch):
    files = {"json_path": tmp_path / "b.json", "figure_path": tmp_path / "b.png"}
    result, text = run(**files)
    assert json.loads(files["json_path"].read_text()) == result
    cases = result["scaling"]
    sizes = [("batch", 1), ("batch", 2), ("batch", 5), ("width", 3), ("width", 8)]
    assert [(case["axis"], case["size"]) for case in cases] == sizes
    for case in cases:
        assert list(case["seconds"]) == ["minigan"]
        assert len(case["seconds"]["minigan"]) == 2
        assert min(case["seconds"]["minigan"]) > 0
    assert text.count("slope of log time over") == 2
    assert text.count("us a sample") == 1  # PyTorch has no line
    with Image.open(files["figure_path"]) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(2**24)) > 100


def test_pytorch_runs_beside(tmp_path):
    pytest.importorskip("torch", reason=NO_TORCH)
    result, text = run(figure_path=tmp_path / "b.png")
    for case in result["scaling"]:
        assert list(case["seconds"]) == ["minigan", "PyTorch, fused Adam"]
    assert text.count("us a sample") == 2


# -------------------------------------------------------------------------------------- what grows
def test_only_hidden_layers_are_widened():
    wide = scaling.widened(GAME, 9)
    assert wide == Game(Perceptrons("", (9, 9), (9,), 4), (6,), (3,))


def test_flops_are_those_of_a_step_at_that_size():
    batches, widths = scaling.groups(TINY, {})
    found = [case["flops"] for case in (*batches.cases, *widths.cases)]
    steps = [(GAME, 1), (GAME, 2), (GAME, 5), (scaling.widened(GAME, 3), 3)]
    assert found[:4] == [2 * multiply_adds(*step) for step in steps]
    assert found[2] == 5 * found[0]
    assert found[4] > found[3]


# -------------------------------------------------------------------------------------------- fits
@pytest.mark.parametrize("power", [0.5, 1, 2])
def test_the_slope_is_the_power_over_the_upper_sizes(power):
    sizes = [1, 2, 4, 8, 16, 32]
    times = [99.0, 7.0, *(3e-3 * n**power for n in sizes[-scaling.UPPER :])]
    assert scaling.slope(sizes, times) == pytest.approx(power)
    assert scaling.slope(sizes, [times[0], times[1], 0.1, *times[3:]]) != pytest.approx(power)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.25), (1e-3, 1e-6), (0, 2), (3, 0)])
def test_a_line_is_found(a, b):
    sizes = [1, 2, 4, 8, 1024]
    found = scaling.line(sizes, [a + b * n for n in sizes])
    assert found == pytest.approx((a, b), abs=1e-12)


def test_small_sizes_count_as_much_as_large_ones():
    sizes = np.array([1, 2, 4, 1000, 2000])
    times = (1 + 0.01 * sizes) * [1, 1, 1, 1, 1.2]
    assert scaling.line(sizes, times)[0] == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize(
    ("times", "found"),
    [([1, 4, 16], (0, 4 / 3)), ([4, 2, 1], (4 / 3, 0))],
)
def test_no_part_of_a_line_is_negative(times, found):
    a, b = scaling.line([1, 2, 4], times)
    assert (a, b) == pytest.approx(found)
