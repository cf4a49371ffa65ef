"""`minigan bench --devices` sweeps sizes on several devices. No time is asserted."""

import gc
import io
import json
import math
import sys
import weakref
from contextlib import nullcontext
from types import SimpleNamespace

import cupy_standin
import numpy as np
import pytest
from emulator_helpers import needs_compiler
from helpers import assert_close
from PIL import Image

import minigan as mg
from minigan.bench import device_report, devices, floor, games
from minigan.bench.device_report import crossover, faster_from
from minigan.bench.kernels import KERNELS
from minigan.bench.peers import load
from minigan.bench.plan import GAMES, DevicePlan, Game
from minigan.bench.timing import Group, measure
from minigan.cli.commands import main
from minigan.engine.cuda import CudaDevice
from minigan.gan.models import Dcgan, Perceptrons
from minigan.kernels.runtime.cuda.gpu import Gpu
from minigan.kernels.runtime.cuda.launcher import KernelError, OutOfMemoryError

RING = Game(Perceptrons("", (5,), (4,), 2), (3,), (2, 3))
MLP = Game(Perceptrons("", (8,), (8,), 5), (1, 2, 3), (4,))
DCGAN = Game(Dcgan("", 3, 5), (1, 16, 16), (4,))
TINY = DevicePlan((3, 4, 8), (64, 130, 1000), {"ring": RING}, 0, 0, longest=60, rest_seconds=0)
EVERYTHING = [*KERNELS, "step"]
NO_TORCH = "PyTorch is not installed: nothing is measured beside it"


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch raises ImportError


@pytest.fixture
def gpu(monkeypatch):
    """A `cuda` device without a GPU; PyTorch, where installed, stands beside it on the CPU."""
    monkeypatch.setattr(devices, "PYTORCH_DEVICES", {"cuda": "cpu"})
    return CudaDevice("cuda", Gpu(cupy_standin))


def run(names, asked=("reference", "cpu"), **options):
    """(what `devices.run` returns, what it prints)"""
    output = io.StringIO()
    given = {"repeats": 2, "output": output, "plan": TINY, **options}
    return devices.run(asked, names, **given), output.getvalue()


def case(size, **seconds):
    return {"size": size, "work": size, "seconds": {k: [x] for k, x in seconds.items()}}


# --------------------------------------------------------------------------------------- the whole
@needs_compiler
def test_everything_is_measured_on_both_devices_printed_drawn_and_kept(tmp_path, without_torch):
    files = {"json_path": tmp_path / "b.json", "figure_path": tmp_path / "b.png"}
    result, text = run([], ["cpu", "cuda-emulator"], **files)
    assert json.loads(files["json_path"].read_text()) == result
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.json", "b.png"]
    assert list(result["series"]) == EVERYTHING
    assert result["machine"]["devices"]["cuda-emulator"]["runs on"].startswith("one core")
    assert result["plan"]["edges"] == [3, 4, 8]
    for name, cases in result["series"].items():
        assert len(cases) == (2 if name == "step" else 3)
        for found in cases:
            assert list(found["seconds"]) == ["cpu", "cuda-emulator"]
            assert all(len(x) == 2 and min(x) > 0 for x in found["seconds"].values())
        assert f"\n{name}: " in text
    with Image.open(files["figure_path"]) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 1000
        assert len(picture.convert("RGB").getcolors(2**24)) > 100


@needs_compiler
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_gpu_has_pytorch_beside_it(gpu, monkeypatch):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    result, text = run([], ["cpu", gpu])
    assert result["left_out"] == {name: {} for name in EVERYTHING}
    beside = {"matmul": ["PyTorch"], "conv2d": ["PyTorch"]}
    beside |= {"step": ["PyTorch", "PyTorch, compiled"]}
    for name, cases in result["series"].items():
        for found in cases:
            assert list(found["seconds"])[2:] == beside.get(name, ["PyTorch", "copy"])
    assert result["machine"]["devices"]["cuda"]["gpu"] == "A stand-in"
    assert "cuda       gpu A stand-in, memory 1 GiB, capability 9.0" in text


def test_without_pytorch_a_gpu_is_measured_alone(gpu, without_torch):
    result, _ = run(["add"], [gpu])
    assert [list(x["seconds"]) for x in result["series"]["add"]] == [["cuda"]] * 3


@pytest.mark.parametrize(
    ("names", "options", "error", "message"),
    [
        (["ad"], {}, ValueError, "unknown benchmark 'ad'; did you mean 'add'"),
        ([], {"repeats": 0}, ValueError, "repeats = 0 is not a positive"),
        ([], {"threads": 0}, ValueError, "threads = 0 is not between 1 and"),
        ([], {"json_path": "no/folder/b.json"}, ValueError, "no/folder/b.json: there is no folder"),
        ([], {"figure_path": "no/folder/b.png"}, ValueError, "no/folder/b.png: there is no folder"),
        (["step"], {"figure_path": "b.png"}, ValueError, "b.png: a figure shows kernels"),
        ([], {"figure_path": "b.pdf"}, ValueError, "b.pdf: the figure is a PNG; its name ends"),
        ([], {"figure_path": "/"}, ValueError, "/ is a folder, not a file"),
        ([], {"json_path": "/"}, ValueError, "/ is a folder, not a file"),
        ([], {"asked": ["cpu", "cud"]}, ValueError, "unknown device 'cud'"),
        ([], {"asked": [""]}, ValueError, "unknown device ''"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_measured(names, options, error, message):
    output = io.StringIO()
    with pytest.raises(error, match=message):
        run(names, **{"output": output, **options})
    assert output.getvalue() == ""


def test_a_run_leaves_random_numbers_as_they_were(without_torch):
    before = mg.random.default_generator().state()
    run(["normal", "step"])
    assert mg.random.default_generator().state() == before


def test_the_command_takes_devices(monkeypatch, capsys):
    monkeypatch.setattr(devices, "DevicePlan", lambda: TINY)
    assert main(["bench", "add", "--devices", "cpu, reference", "--repeats", "1"]) == 0
    assert "reference is faster than cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "b.png"], "b.png: a figure shows one benchmark, kernels or scaling"),
        (["--devices", "cpu,gpu"], "unknown device 'gpu'"),
        (["--devices", "cpu,"], "--devices 'cpu,' is no list of names"),
        (["exp"], "benchmark 'exp' is measured on devices: --devices says on which"),
        (["ad", "--devices", "cpu"], "unknown benchmark 'ad'"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, message, capsys):
    assert main(["bench", *arguments]) != 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert main(["bench", "--devices", "cpu,cuda"]) != 0
    assert "the cuda device needs cupy" in capsys.readouterr().err.splitlines()[-1]


# ------------------------------------------------------------------------------- who stays in it
class Short(CudaDevice):
    """A device that has no room for more than 200 elements."""

    def __init__(self):
        cpu = mg.get_device("cpu")
        self.name, self.run, self.launcher = "cuda", cpu.run, SimpleNamespace(describe=dict)

    def from_numpy(self, array):
        if array.size > 200:
            raise OutOfMemoryError("no room")
        return array

    def synchronize(self):
        pass


def test_a_device_without_room_measures_nothing_larger(without_torch):
    result, text = run(["add"], ["cpu", Short()])
    found = [list(x["seconds"]) for x in result["series"]["add"]]
    assert found == [["cpu", "cuda"], ["cpu", "cuda"], ["cpu"]]
    assert result["left_out"] == {"add": {"cuda": "OutOfMemoryError: no room"}}
    assert "cuda ends here: OutOfMemoryError: no room" in text


def test_what_fails_otherwise_is_an_error(monkeypatch, without_torch):
    def broken(array):
        raise KernelError("does not compile")

    device = Short()
    monkeypatch.setattr(device, "from_numpy", broken)
    with pytest.raises(KernelError, match="does not compile"):
        run(["add"], ["cpu", device])


def test_a_device_in_the_hosts_memory_takes_no_more_than_its_share(without_torch):
    plan = DevicePlan(elements=(64, 1000), kernel_seconds=0, host_bytes=12 * 64, rest_seconds=0)
    result, text = run(["add"], ["cpu"], plan=plan)
    assert [x["size"] for x in result["series"]["add"]] == [64]
    assert "cpu ends here: larger cases take more than 768 bytes" in text


def test_a_device_that_takes_too_long_measures_nothing_larger(monkeypatch, without_torch):
    times = {"cpu": 1.0, "reference": 3.0}  # per 1000 elements

    class Timed(CudaDevice):
        def __init__(self, name):
            self.name, self.asked = name, []
            self.launcher = SimpleNamespace(describe=dict)

        def from_numpy(self, array):
            self.asked.append(array.size)
            return array

        def run(self, op, arrays, attributes):
            self.took = times[self.name] * arrays[0].size / 1000

        def synchronize(self):
            pass

    slow = Timed("reference")
    monkeypatch.setattr(devices, "run_calls", lambda call, n, wait: call() or slow.took)
    plan = DevicePlan(elements=(64, 500, 1000, 4000), longest=1, kernel_seconds=0, rest_seconds=0)
    result, text = run(["exp"], [slow], plan=plan)
    assert [x["size"] for x in result["series"]["exp"]] == [64]
    assert slow.asked == [64, 500]  # 1.5 s were foreseen, and half of that is no reason to stop
    assert "reference ends here: a larger case's call takes more than 1 s" in text


def test_a_peer_that_fails_is_named_and_left_out(gpu, monkeypatch):
    pytest.importorskip("torch", reason=NO_TORCH)
    calls, tried = load("pytorch_device").CALLS, []

    def broken(x):
        tried.append(len(x))
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setitem(calls, "exp", broken)
    result, text = run(["exp", "sum"], [gpu])
    assert tried == [64]
    assert result["left_out"]["exp"] == {"PyTorch": "RuntimeError: no kernel image is available"}
    assert "PyTorch ends here: RuntimeError: no kernel image is available" in text
    assert [list(x["seconds"]) for x in result["series"]["exp"]] == [["cuda", "copy"]] * 3
    assert "PyTorch" in result["series"]["sum"][0]["seconds"]


# ---------------------------------------------------------------------------------------- kernels
@pytest.mark.parametrize("name", list(KERNELS))
def test_every_kernel_says_what_it_moves(name):
    kernel = KERNELS[name]
    for found in kernel.cases(name, TINY):
        size = found["size"]
        moved = sum(x.nbytes for x in kernel.arrays(size))
        result = kernel.ready(mg.get_device("reference"), size)()
        moved += 0 if result is None else result.nbytes
        if name == "adam":  # p, m and v are written; the numbers are few
            moved += 3 * 4 * size - kernel.arrays(size)[-1].nbytes
        if name == "normal":  # takes no array but for its shape
            moved -= 2 * 8 + 4 * size
        if name == "sum":
            moved -= 4
        assert found["bytes"] == moved
        if name == "matmul":
            moved = 2 * size**3
        if name == "conv2d":  # each pixel of the result is a sum over the weights
            moved = 2 * result.size * math.prod(kernel.arrays(size)[1].shape[1:])
        assert found["work"] == moved


def test_the_sizes_of_the_plan_reach_what_is_asked_of_kernels():
    assert DevicePlan().edges[-2:] == (4096, 8192)
    assert [x["size"] for x in KERNELS["transpose"].cases("transpose", TINY)] == [64, 121, 961]
    assert [x["size"] for x in KERNELS["gather"].cases("gather", TINY)] == [64, 128, 960]
    assert DevicePlan().elements[-1] == 2**26
    for sizes in (DevicePlan().edges, DevicePlan().elements):
        assert list(sizes) == sorted(set(sizes))


@needs_compiler
@pytest.mark.parametrize("name", sorted(set(KERNELS) - {"normal", "adam"}))
def test_pytorch_does_the_same(name):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    kernel = KERNELS[name]
    for found in kernel.cases(name, TINY):
        size = found["size"]
        given = name, lambda size=size: kernel.arrays(size), kernel.bytes(size), "cpu"
        makers = load("pytorch_device").kernel_calls(*given)
        theirs = makers["PyTorch"]()().numpy().reshape(-1)
        for device in map(mg.get_device, ("cpu", "cuda-emulator")):
            ours = device.to_numpy(kernel.ready(device, size)()).reshape(-1)
            assert_close(ours, theirs, 1e-6 * max(10, np.abs(theirs).max()))
        if kernel.flops is None:
            copied = makers["copy"]()()
            assert copied.dtype == torch.uint8
            assert 2 * copied.numel() == kernel.bytes(size)


def test_pytorchs_adam_takes_the_same_step():
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    arrays = KERNELS["adam"].arrays(1000)
    ours = [x.copy() for x in arrays]
    ours[3][:] = 0  # PyTorch's second moment begins there
    KERNELS["adam"].call(mg.get_device("cpu"), ours)()
    theirs = [torch.from_numpy(x.copy()) for x in arrays]
    load("pytorch_device").CALLS["adam"](*theirs)()
    assert_close(ours[0], theirs[0].detach().numpy(), 1e-6)
    assert np.abs(ours[0] - arrays[0]).max() > 5e-5


# ------------------------------------------------------------------------------------------ steps
@pytest.mark.parametrize("game", [RING, MLP, DCGAN])
@pytest.mark.parametrize("name", ["PyTorch", "PyTorch, compiled"])
def test_pytorch_takes_the_same_steps(game, name, monkeypatch, rng):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    compiled, nets = [], game.nets()
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled.append(1) or function)
    monkeypatch.setattr(Game, "nets", lambda game: nets)
    theirs = games.peers(game, 4, load("pytorch_device"), "cpu")[name]()
    assert len(compiled) == (1 if "compiled" in name else 0)
    ours = games.ready(game, 4, mg.get_device("cpu"))
    for _ in range(10):
        latent = rng.standard_normal((4, game.model.latent_size), np.float32)
        np.testing.assert_allclose(
            [float(x) for x in ours(latent)], [float(x) for x in theirs(latent)], rtol=1e-5
        )


def test_a_step_runs_where_it_was_made_and_reads_no_loss():
    step = games.ready(RING, 2, mg.get_device("reference"))
    assert {x.device.name for x in step()} == {"reference"}


def test_games_are_the_projects_own():
    assert GAMES["ring"].batches == (256,)
    assert 64 in GAMES["MLP"].batches
    cases = list(games.cases(TINY))
    assert [x["work"] for x in cases] == [floor.multiply_adds(RING, n) for n in (2, 3)]
    assert cases[0]["bytes"] == 16 * (3 * 5 + 6 * 3 + 4 * 4 + 5 * 1)


def test_a_graph_is_warmed_up_recorded_and_replayed_and_keeps_its_weights(monkeypatch):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    peer, log = load("pytorch_device"), []

    class Stream:
        def wait_stream(self, other):
            log.append("wait")

    class Graph:
        def replay(self):
            log.append("replay")

    class Step:
        def __call__(self):
            log.append("step")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda x: nullcontext(log.append(type(x).__name__)))
    step = Step()
    alive = weakref.ref(step)
    replay = peer.graphed(step)
    del step
    gc.collect()
    assert alive() is not None
    replay()
    assert log == ["wait", "Stream", *3 * ["step"], "wait", "Graph", "step", "replay"]
    assert "PyTorch, CUDA graph" in peer.step_calls(Step, "cuda")
    assert "PyTorch, CUDA graph" not in peer.step_calls(Step, "cpu")


# ----------------------------------------------------------------------------------------- timing
def test_a_time_holds_what_was_only_started(monkeypatch):
    clock, begun = SimpleNamespace(now=0.0), []
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)

    def start():
        clock.now += 0.25
        begun.append(1)

    def wait():
        clock.now += 0.5 * len(begun)
        begun.clear()

    group = Group([{}], {"A": [start], "B": [start]}, 10.0, {"A": wait})
    (found,) = measure(group, 2, 0, begun.clear)
    assert found["seconds"] == {"A": [0.75] * 2, "B": [0.25] * 2}


# -------------------------------------------------------------------------------------- crossover
@pytest.mark.parametrize(
    ("fast", "at"),
    [
        ([1, 1, 1], 0.0),
        ([99, 99, 2e4], math.inf),
        ([100, 1000, 1000], 1000.0),
        ([10**2.5, 10**2.5, 10**2.5], 10**2.5),
        ([1, 5000, 5000], 10 ** (3 + math.log10(5) / 1)),
    ],
)
def test_the_crossover_is_where_lines_cross_on_logarithmic_axes(fast, at):
    cases = [case(10**k, cpu=10.0**k, cuda=x) for k, x in zip((2, 3, 4), fast, strict=True)]
    assert crossover(cases, "cpu", "cuda") == pytest.approx(at)


def test_a_crossover_takes_sizes_that_both_measured():
    assert crossover([case(1, cpu=1.0), case(2, cuda=1.0)], "cpu", "cuda") is None
    cases = [case(1, cpu=1.0, cuda=2.0), case(100, cpu=1.0, cuda=0.5), case(999, cuda=9.0)]
    assert crossover(cases, "cpu", "cuda") == pytest.approx(10)
    words = [faster_from(x) for x in (None, math.inf, 0.0, 12345.6)]
    assert words == [
        "never measured together",
        "at no size",
        "at every size",
        "from n = 12,346 on",
    ]


# ----------------------------------------------------------------------------- tables and figures
def test_the_table_of_a_kernel():
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
        "cpu ends here: MemoryError: full",
    ]


def test_the_table_of_steps_is_in_milliseconds():
    found = {"game": "ring", "batch": 64, "seconds": {"cpu": [0.25], "PyTorch": [0.5]}}
    text = device_report.table("step", [found], ["cpu"], {})
    assert text.splitlines() == [
        "step: training step, both players, ms",
        "game  batch  cpu  PyTorch  ratio    25..75 %",
        "ring  64     250      500   2.00  2.00..2.00",
    ]


def test_a_figure_marks_the_crossover(tmp_path, monkeypatch):
    marked, lines = [], []
    from matplotlib.axes import Axes

    plot = Axes.plot
    monkeypatch.setattr(Axes, "axvline", lambda self, x, **_: marked.append(x))
    monkeypatch.setattr(
        Axes, "plot", lambda self, *xy, **k: lines.append(k["label"]) or plot(self, *xy, **k)
    )
    cases = [case(1, cpu=1.0, cuda=2.0), case(100, cpu=2.0, cuda=1.0, copy=0.5)]
    series = {"exp": cases, "step": [{"batch": 64, "seconds": {"cpu": [1.0]}}]}
    result = {"devices": ["cpu", "cuda"], "series": series}
    device_report.draw(result, tmp_path / "f.png")
    assert marked == [pytest.approx(10)]
    assert lines == ["cpu", "cuda", "copy"]
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width > 300
