"""The tables, the figure and the crossover sizes of `minigan bench --devices`."""

import math

import pytest
from PIL import Image

from minigan.bench import device_report
from minigan.bench.device_report import crossover, describe_crossover


def case(size, **seconds):
    return {"size": size, "work": size, "seconds": {k: [x] for k, x in seconds.items()}}


# -------------------------------------------------------------------------------------- crossover
@pytest.mark.parametrize(
    ("fast", "size"),
    [
        ([1, 1, 1], 0.0),
        ([99, 99, 2e4], math.inf),
        ([100, 1000, 1000], 1000.0),
        ([10**2.5, 10**2.5, 10**2.5], 10**2.5),
        ([1, 5000, 5000], 10 ** (3 + math.log10(5) / 1)),
    ],
)
def test_crossover_is_interpolated_on_logarithmic_axes(fast, size):
    cases = [case(10**k, cpu=10.0**k, cuda=x) for k, x in zip((2, 3, 4), fast, strict=True)]
    assert crossover(cases, "cpu", "cuda") == pytest.approx(size)


def test_crossover_uses_sizes_that_both_measured():
    assert crossover([case(1, cpu=1.0), case(2, cuda=1.0)], "cpu", "cuda") is None
    cases = [case(1, cpu=1.0, cuda=2.0), case(100, cpu=1.0, cuda=0.5), case(999, cuda=9.0)]
    assert crossover(cases, "cpu", "cuda") == pytest.approx(10)
    texts = [describe_crossover(x) for x in (None, math.inf, 0.0, 12345.6)]
    assert texts == [
        "never measured together",
        "at no size",
        "at every size",
        "from n = 12,346 on",
    ]


# ----------------------------------------------------------------------------- tables and figures
def test_table_of_a_kernel():
    cases = [
        {"size": 10, "work": 1e9, "seconds": {"cpu": [1.0, 2.0, 4.0], "cuda": [4.0] * 3}},
        {
            "size": 1000,
            "work": 8e9,
            "seconds": {"cpu": [4.0] * 3, "cuda": [2.0] * 3, "copy": [1.0] * 3},
        },
        {"size": 2000, "work": 16e9, "seconds": {"cuda": [1.0] * 3}},
    ]
    text = device_report.table("exp", cases, ["cpu", "cuda"], {"cpu": "MemoryError: full"})
    assert text.splitlines() == [
        "exp: exp, GB/s",
        "size   cuda    cpu  ratio      25..75 %  copy  ratio      25..75 %",
        "10    0.250  0.500  0.500  0.375..0.750     -      -",
        "1000   4.00   2.00   2.00    2.00..2.00  8.00  0.500  0.500..0.500",
        "2000   16.0      -      -                   -      -",
        "cuda is faster than cpu from n = 100 on",
        "cpu was measured no further: MemoryError: full",
    ]


def test_table_of_steps_is_in_milliseconds():
    step = {"task": "ring", "batch": 64, "seconds": {"cpu": [0.25], "PyTorch": [0.5]}}
    text = device_report.table("step", [step], ["cpu"], {})
    assert text.splitlines() == [
        "step: training step, both players, ms",
        "task  batch  cpu  PyTorch  ratio    25..75 %",
        "ring  64     250      500   2.00  2.00..2.00",
    ]


def test_figure_marks_the_crossover(tmp_path, monkeypatch):
    crossovers, lines = [], []
    from matplotlib.axes import Axes

    plot = Axes.plot
    monkeypatch.setattr(Axes, "axvline", lambda self, x, **_: crossovers.append(x))
    monkeypatch.setattr(
        Axes, "plot", lambda self, *xy, **k: lines.append(k["label"]) or plot(self, *xy, **k)
    )
    cases = [case(1, cpu=1.0, cuda=2.0), case(100, cpu=2.0, cuda=1.0, copy=0.5)]
    series = {"exp": cases, "step": [{"batch": 64, "seconds": {"cpu": [1.0]}}]}
    result = {"devices": ["cpu", "cuda"], "series": series}
    device_report.draw(result, tmp_path / "f.png")
    assert crossovers == [pytest.approx(10)]
    assert lines == ["cpu", "cuda", "copy"]
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width > 300
