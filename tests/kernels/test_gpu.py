"""The code that only a GPU can run, on a stand-in for cupy: every line of gpu.py, and training."""

import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import cupy_standin
import numpy as np
import pytest
from emulator_helpers import needs_compiler

import minigan as mg
from minigan import nn, optim
from minigan.engine.cuda import CudaDevice
from minigan.kernels.runtime.cuda.gpu import Gpu
from minigan.kernels.runtime.cuda.launcher import KernelError, OutOfMemoryError

SOURCE = Path(__file__).with_name("planted.cu")
FLOAT32 = np.dtype("float32")
pytestmark = needs_compiler


@pytest.fixture
def gpu():
    return Gpu(cupy_standin)


def _losses(device):
    mg.manual_seed(3)
    with mg.use_device(device):
        g = nn.Sequential(nn.Dense(5, 16), nn.LeakyReLU(0.2), nn.Dense(16, 7), nn.Tanh())
        d = nn.Sequential(nn.Dense(7, 16), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Dense(16, 1))
        adam_g, adam_d = (optim.Adam(net.parameters()) for net in (g, d))
        loss, losses = mg.losses.NonSaturating(), []
        for _ in range(2):
            real, fake = mg.random.uniform((9, 7), stream="data"), g(mg.random.normal((9, 5)))
            loss_d = loss.discriminator(d(real), d(fake.detach()))
            adam_d.step(mg.grad(loss_d, d.parameters()))
            loss_g = loss.generator(d(fake))
            adam_g.step(mg.grad(loss_g, g.parameters()))
            losses += [loss_d.item(), loss_g.item()]
    return losses


def test_a_training_step_equals_the_emulators(gpu):
    """The same kernels with the same launches have the same bits."""
    assert _losses(CudaDevice("cuda", gpu)) == _losses("cuda-emulator")


def test_arrays_are_copied_to_the_gpu_and_back(gpu):
    x = np.arange(12.0).reshape(3, 4)
    y = gpu.from_numpy(x.T)
    assert isinstance(y, cupy_standin.ndarray)
    assert y.flags.c_contiguous
    for view, expected in ((y, x.T), (y.T, x), (y[::2, 1:], x.T[::2, 1:])):
        back = gpu.to_numpy(view)
        assert type(back) is np.ndarray
        assert back.flags.c_contiguous
        assert np.array_equal(back, expected)
    assert gpu.broadcast_to(y[:1], (5, 3)).shape == (5, 3)
    assert gpu.address(y[1:]) == gpu.address(y) + 3 * 8
    assert gpu.array_type is cupy_standin.ndarray  # in the real cupy no subclass of numpy.ndarray


def test_an_array_that_does_not_fit_raises_with_the_free_memory(gpu):
    message = (
        r"too little free memory for float32\(70000, 70000\), 19,600,000,000 bytes:"
        " 536,870,912 of 1,073,741,8"
    )
    with pytest.raises(OutOfMemoryError, match=message):
        gpu.empty((70000, 70000), FLOAT32)


def test_describe_and_synchronize(gpu):
    assert gpu.describe() == {
        "gpu": "A stand-in",
        "memory": "1 GiB",
        "capability": "9.0",
        "driver": "for CUDA 13.2",
        "cupy": cupy_standin.__version__,
    }
    before = len(cupy_standin.waits)
    CudaDevice("cuda", gpu).synchronize()
    assert len(cupy_standin.waits) == before + 1


def _ones(gpu, kernel="two_blocks", dtype=FLOAT32):
    y = gpu.empty((64,), dtype)
    gpu.launch(SOURCE, kernel, dtype, (1,), (64,), [y])
    return y.tolist()


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_a_file_is_compiled_once_per_dtype_and_reported(gpu, empty_cache):
    reports = []
    CudaDevice("cuda", gpu).on_compile(reports.append)
    for dtype in ("float32", "float64", "float32"):
        assert _ones(gpu, "two_blocks", np.dtype(dtype)) == [1] * 64
        _ones(gpu, "within_a_warp", np.dtype(dtype))
    assert reports == ["kernels/planted.cu (float32)", "kernels/planted.cu (float64)"]


@pytest.mark.slow
def test_compiled_kernels_are_cached_and_a_damaged_file_is_replaced(gpu, empty_cache):
    _ones(gpu)
    (file,) = (empty_cache / "cuda").iterdir()
    assert file.name.startswith("kernels.planted-")
    compiled = cupy_standin.cuda.nvrtc.compiled
    assert _ones(Gpu(cupy_standin)) == [1] * 64
    assert cupy_standin.cuda.nvrtc.compiled == compiled
    file.write_bytes(b"half of it")
    assert _ones(Gpu(cupy_standin)) == [1] * 64
    assert cupy_standin.cuda.nvrtc.compiled == compiled + 1
    assert len(file.read_bytes()) > 100


def test_kernels_are_compiled_where_the_cache_cannot_be_written(gpu, empty_cache):
    (empty_cache / "cuda").write_text("a file where the folder would be")
    with pytest.warns(RuntimeWarning, match="compiled kernels cannot be cached in"):
        assert _ones(gpu) == [1] * 64


@pytest.mark.slow
def test_for_a_gpu_newer_than_the_compiler_ptx_is_made(gpu, empty_cache, monkeypatch):
    monkeypatch.setattr(cupy_standin.Device, "compute_capability", "120")
    assert _ones(gpu) == [1] * 64


def test_a_new_thread_can_launch(gpu):
    _ones(gpu)
    results = []
    thread = threading.Thread(target=lambda: results.append(_ones(gpu)))
    thread.start()
    thread.join()
    assert results == [[1] * 64]


def test_dynamic_shared_memory_beyond_48_kib_is_requested(gpu):
    y = gpu.empty((64,), FLOAT32)
    for shared_bytes in (256, 100 * 1024):
        gpu.launch(SOURCE, "beyond_dynamic", FLOAT32, (1,), (64,), [y], shared_bytes)
        assert y.tolist() == [1] * 64


def test_the_error_of_a_failed_launch_describes_its_arguments(gpu, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")

    monkeypatch.setattr(cupy_standin.cuda.driver, "launchKernel", refuse)
    message = (
        r"copy \(planted.cu\): the launch failed: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES \[grid \(1, 1,"
        r" 1\), block \(64, 1, 1\), 0 bytes shared; float32\(64,\), null, 64\]"
    )
    with pytest.raises(KernelError, match=message):
        gpu.launch(SOURCE, "copy", FLOAT32, (1,), (64,), [gpu.empty((64,), "f"), None, 64])


def test_a_compile_error_is_one_line(gpu, tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text('extern "C" __global__ void f(Out<REAL> y) { y[0] = undeclared; }\n')
    with pytest.raises(KernelError, match=r"wrong\.cu does not compile: .*undeclared") as e:
        gpu.launch(source, "f", FLOAT32, (1,), (1,), [gpu.empty((1,), "f")])
    assert "\n" not in str(e.value)
    with pytest.raises(KernelError, match=r"planted\.cu has no kernel 'nothing': .*not found"):
        gpu.launch(SOURCE, "nothing", FLOAT32, (1,), (1,), [])


# ---------------------------------------------------------------------------------- without a GPU
def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(KernelError, match=r"needs cupy .*: install minigan with its extra"):
        Gpu()


def _cupy(count):
    cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count))
    return SimpleNamespace(ndarray=None, cuda=cuda, __version__="14")


def test_without_a_fitting_driver_the_error_says_so():
    def fail():
        raise RuntimeError("cudaErrorInsufficientDriver")

    message = r"no NVIDIA driver that fits cupy 14 answers \(cudaErrorInsufficientDriver\)"
    with pytest.raises(KernelError, match=message):
        Gpu(_cupy(fail))


def test_without_a_gpu_the_error_says_so():
    def fail():
        raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    for count in (fail, lambda: 0):
        with pytest.raises(KernelError, match=r"sees no GPU .*cuda-emulator needs none"):
            Gpu(_cupy(count))
