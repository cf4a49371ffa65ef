"""`minigan bench --devices`: what is measured, refused and left out. No time is asserted."""

import io
import json
import sys
from types import SimpleNamespace

import cupy_standin
import pytest
from emulator_helpers import needs_compiler
from PIL import Image

import minigan as mg
from minigan.bench import devices
from minigan.bench.kernels import KERNELS
from minigan.bench.peers import load
from minigan.bench.plan import DevicePlan, Task
from minigan.cli.commands import main
from minigan.engine.cuda import CudaDevice
from minigan.gan.models import Perceptrons
from minigan.kernels.runtime.cuda.gpu import Gpu
from minigan.kernels.runtime.cuda.launcher import KernelError, OutOfMemoryError

RING = Task(Perceptrons("", (5,), (4,), 2), (3,), (2, 3))
TINY = DevicePlan(
    (3, 4, 8), (64, 130, 1000), {"ring": RING}, 0, 0, max_call_seconds=60, rest_seconds=0
)
EVERYTHING = [*KERNELS, "step"]
NO_TORCH = "PyTorch is not installed: nothing is measured beside it"


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch raises ImportError


@pytest.fixture
def gpu(monkeypatch):
    """Return a `cuda` device without a GPU; PyTorch, if installed, runs beside it on the CPU."""
    monkeypatch.setattr(devices, "PEER_DEVICES", {"cuda": "cpu"})
    return CudaDevice("cuda", Gpu(cupy_standin))


def run(names, on=("reference", "cpu"), **options):
    """Return what `devices.run` returns and what it prints."""
    output = io.StringIO()
    settings = {"repeats": 2, "output": output, "plan": TINY, **options}
    return devices.run(on, names, **settings), output.getvalue()


# --------------------------------------------------------------------------------------- whole runs
@needs_compiler
def test_everything_is_measured_on_both_devices_printed_drawn_and_written(tmp_path, without_torch):
    files = {"json_path": tmp_path / "b.json", "figure_path": tmp_path / "b.png"}
    result, text = run([], ["cpu", "cuda-emulator"], **files)
    assert json.loads(files["json_path"].read_text()) == result
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.json", "b.png"]
    assert list(result["series"]) == EVERYTHING
    assert result["machine"]["devices"]["cuda-emulator"]["runs on"].startswith("one core")
    assert result["plan"]["edges"] == [3, 4, 8]
    for name, cases in result["series"].items():
        assert len(cases) == (2 if name == "step" else 3)
        for case in cases:
            assert list(case["seconds"]) == ["cpu", "cuda-emulator"]
            assert all(len(x) == 2 and min(x) > 0 for x in case["seconds"].values())
        assert f"\n{name}: " in text
    with Image.open(files["figure_path"]) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 1000
        assert len(picture.convert("RGB").getcolors(2**24)) > 100


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pytorch_is_measured_beside_a_gpu(gpu, monkeypatch):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    result, text = run([], ["cpu", gpu])
    assert result["skipped"] == {name: {} for name in EVERYTHING}
    peers = {"matmul": ["PyTorch"], "conv2d": ["PyTorch"]}
    peers |= {"step": ["PyTorch", "PyTorch, compiled"]}
    for name, cases in result["series"].items():
        for case in cases:
            assert list(case["seconds"])[2:] == peers.get(name, ["PyTorch", "copy"])
    assert result["machine"]["devices"]["cuda"]["gpu"] == "A stand-in"
    assert "cuda       gpu A stand-in, memory 1 GiB, capability 9.0" in text


@needs_compiler
def test_eager_steps_and_jax_are_measured_where_they_are_named(monkeypatch):
    pytest.importorskip("jax", reason="JAX is not installed: nothing is measured beside it")
    monkeypatch.setattr(devices, "PEER_DEVICES", {"cuda-emulator": "cpu"})
    names = "JAX", "minigan, eager"
    result, text = run(["step", "exp"], ["cuda-emulator"], contenders=names, repeats=1)
    assert result["skipped"] == {"step": {}, "exp": {}}
    for case in result["series"]["step"]:
        assert list(case["seconds"]) == ["cuda-emulator", "minigan, eager", "JAX"]
    assert [list(x["seconds"]) for x in result["series"]["exp"]] == [["cuda-emulator"]] * 3
    assert "minigan, eager" in text


def test_file_is_written_after_each_case(tmp_path, monkeypatch, without_torch):
    counts = []

    def write_result(result, path):
        counts.append([len(cases) for cases in result["series"].values()])
        return json.loads(json.dumps(result))

    monkeypatch.setattr(devices, "write_result", write_result)
    run(["exp", "sum"], ["cpu"])
    assert counts == [[1], [2], [3], [3], [3, 1], [3, 2], [3, 3], [3, 3]]


def test_the_others_go_on_after_a_failure_if_that_is_asked_for(monkeypatch, without_torch):
    kernel = KERNELS["exp"]

    def broken(device, size):
        if size == 1000:
            raise KernelError("an illegal\naccess")
        return kernel.build_call(device, size)

    fields = {"cases": kernel.cases, "build_call": broken, "about": "", "unit": ""}
    monkeypatch.setitem(KERNELS, "exp", SimpleNamespace(**fields))
    with pytest.raises(KernelError, match="illegal"):
        run(["exp", "sum"], ["cpu"])
    result, text = run(["exp", "sum"], ["cpu"], keep_going=True)
    assert result["failed"] == {"exp": "KernelError: an illegal access"}
    assert [len(x) for x in result["series"].values()] == [2, 3]
    assert "exp failed: KernelError: an illegal access" in text


def test_gpu_is_measured_alone_without_pytorch(gpu, without_torch):
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
        ([], {"on": ["cpu", "cud"]}, ValueError, "unknown device 'cud'"),
        ([], {"on": [""]}, ValueError, "unknown device ''"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_measured(names, options, error, message):
    output = io.StringIO()
    with pytest.raises(error, match=message):
        run(names, **{"output": output, **options})
    assert output.getvalue() == ""


def test_run_restores_the_random_state(without_torch):
    before = mg.random.default_generator().state()
    run(["normal", "step"])
    assert mg.random.default_generator().state() == before


def test_command_has_devices(monkeypatch, capsys):
    monkeypatch.setattr(devices, "DevicePlan", lambda: TINY)
    assert main(["bench", "add", "--devices", "cpu, reference", "--repeats", "1"]) == 0
    assert "reference is faster than cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "b.png"], "b.png: a figure shows one benchmark, kernels (or, with"),
        (["--devices", "cpu,gpu"], "unknown device 'gpu'"),
        (["--devices", "cpu,"], "--devices 'cpu,' is not a list of names"),
        (["--devices", "cpu", "--tasks", "ring"], "--tasks does not go with --devices"),
        (["exp"], "benchmark 'exp' needs --devices, say --devices cpu,cuda"),
        (["ad", "--devices", "cpu"], "unknown benchmark 'ad'"),
    ],
)
def test_command_refuses_in_one_line(arguments, message, capsys):
    assert main(["bench", *arguments]) != 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_missing_gpu_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert main(["bench", "--devices", "cpu,cuda"]) != 0
    assert "the cuda device needs cupy" in capsys.readouterr().err.splitlines()[-1]


# -------------------------------------------------------------------------------------- left out
class SmallDevice(CudaDevice):
    """A device without memory for more than 200 elements."""

    def __init__(self):
        cpu = mg.get_device("cpu")
        self.name, self.run, self.launcher = "cuda", cpu.run, SimpleNamespace(describe=dict)

    def from_numpy(self, array):
        if array.size > 200:
            raise OutOfMemoryError("out of memory")
        return array

    def synchronize(self):
        pass


def test_device_without_memory_measures_nothing_larger(without_torch):
    result, text = run(["add"], ["cpu", SmallDevice()])
    names = [list(x["seconds"]) for x in result["series"]["add"]]
    assert names == [["cpu", "cuda"], ["cpu", "cuda"], ["cpu"]]
    assert result["skipped"] == {"add": {"cuda": "OutOfMemoryError: out of memory"}}
    assert "cuda was measured no further: OutOfMemoryError: out of memory" in text


def test_other_failures_of_a_device_are_errors(monkeypatch, without_torch):
    def broken(array):
        raise KernelError("does not compile")

    device = SmallDevice()
    monkeypatch.setattr(device, "from_numpy", broken)
    with pytest.raises(KernelError, match="does not compile"):
        run(["add"], ["cpu", device])


def test_device_in_host_memory_respects_the_limit(without_torch):
    plan = DevicePlan(elements=(64, 1000), kernel_seconds=0, max_host_bytes=12 * 64, rest_seconds=0)
    result, text = run(["add"], ["cpu"], plan=plan)
    assert [x["size"] for x in result["series"]["add"]] == [64]
    assert "cpu was measured no further: larger cases take more than 768 bytes" in text


def test_the_time_of_a_task_is_not_predicted_from_another_one(monkeypatch):
    """The first, small task takes more time per multiply-add than a large one."""
    seconds = {("small", 1): 0.01, ("large", 10_000): 0.02, ("large", 10_000_000): 9}
    cases = [
        devices.DeviceCase({"task": task, "work": work, "bytes": 0}, lambda device: None, None)
        for task, work in seconds
    ]
    expected = iter([t for t in list(seconds.values())[:2] for _ in range(2)])
    monkeypatch.setattr(devices, "run_calls", lambda call, n, wait: next(expected))
    series = devices.Series("step", {"cpu": mg.get_device("cpu")}, (), DevicePlan())
    assert [list(series._device_calls(case)) for case in cases] == [["cpu"], ["cpu"], []]
    assert "a larger case's call takes more than" in series.skipped["cpu"]


def test_slow_device_measures_nothing_larger(monkeypatch, without_torch):
    times = {"cpu": 1.0, "reference": 3.0}  # per 1000 elements

    class Timed(CudaDevice):
        def __init__(self, name):
            self.name, self.sizes = name, []
            self.launcher = SimpleNamespace(describe=dict)

        def from_numpy(self, array):
            self.sizes.append(array.size)
            return array

        def run(self, op, arrays, attributes):
            self.seconds = times[self.name] * arrays[0].size / 1000

        def synchronize(self):
            pass

    slow = Timed("reference")
    monkeypatch.setattr(devices, "run_calls", lambda call, n, wait: call() or slow.seconds)
    plan = DevicePlan(
        elements=(64, 500, 1000, 4000), max_call_seconds=1, kernel_seconds=0, rest_seconds=0
    )
    result, text = run(["exp"], [slow], plan=plan)
    assert [x["size"] for x in result["series"]["exp"]] == [64]
    assert slow.sizes == [64, 500]  # 1.5 s are predicted, and half of that is below the limit.
    assert "reference was measured no further: a larger case's call takes more than 1 s" in text


def test_failing_peer_is_named_and_skipped(gpu, monkeypatch):
    pytest.importorskip("torch", reason=NO_TORCH)
    calls, lengths = load("pytorch_device").CALLS, []

    def broken(x):
        lengths.append(len(x))
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setitem(calls, "exp", broken)
    result, text = run(["exp", "sum"], [gpu])
    assert lengths == [64]
    assert result["skipped"]["exp"] == {"PyTorch": "RuntimeError: no kernel image is available"}
    assert "PyTorch was measured no further: RuntimeError: no kernel image is available" in text
    assert [list(x["seconds"]) for x in result["series"]["exp"]] == [["cuda", "copy"]] * 3
    assert "PyTorch" in result["series"]["sum"][0]["seconds"]
