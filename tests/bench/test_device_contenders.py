"""The kernels and steps of `minigan bench --devices`: their work, and that PyTorch's are equal."""

import gc
import math
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
from emulator_helpers import needs_compiler
from helpers import assert_close

import minigan as mg
from minigan.bench import devices, lower_bound, tasks
from minigan.bench.kernels import KERNELS
from minigan.bench.peers import load
from minigan.bench.plan import TASKS, DevicePlan, Task
from minigan.gan.models import Dcgan, Perceptrons

RING = Task(Perceptrons("", (5,), (4,), 2), (3,), (2, 3))
MLP = Task(Perceptrons("", (8,), (8,), 5), (1, 2, 3), (4,))
DCGAN = Task(Dcgan("", 3, 5), (1, 16, 16), (4,))
TINY = DevicePlan((3, 4, 8), (64, 130, 1000), {"ring": RING})
NO_TORCH = "PyTorch is not installed: nothing is compared with it"


# ---------------------------------------------------------------------------------------- kernels
@pytest.mark.parametrize("name", list(KERNELS))
def test_kernels_state_the_bytes_they_move(name):
    kernel = KERNELS[name]
    for case in kernel.cases(name, TINY):
        size = case["size"]
        moved = sum(x.nbytes for x in kernel.arrays(size))
        result = kernel.build_call(mg.get_device("reference"), size)()
        moved += 0 if result is None else result.nbytes
        if name == "adam":  # p, m and v are written; the state is small
            moved += 3 * 4 * size - kernel.arrays(size)[-1].nbytes
        if name == "normal":  # reads no array
            moved -= 2 * 8 + 4 * size
        if name == "sum":
            moved -= 4
        assert case["bytes"] == moved
        work = moved
        if name == "matmul":
            work = 2 * size**3
        if name == "conv2d":  # each pixel of the result is a sum over the weights
            work = 2 * result.size * math.prod(kernel.arrays(size)[1].shape[1:])
        assert case["work"] == work


def test_sizes_of_the_plan():
    assert DevicePlan().edges[-2:] == (4096, 8192)
    assert [x["size"] for x in KERNELS["transpose"].cases("transpose", TINY)] == [64, 121, 961]
    assert [x["size"] for x in KERNELS["gather"].cases("gather", TINY)] == [64, 128, 960]
    assert DevicePlan().elements[-1] == 2**26
    for sizes in (DevicePlan().edges, DevicePlan().elements):
        assert list(sizes) == sorted(set(sizes))


@needs_compiler
@pytest.mark.parametrize("name", sorted(set(KERNELS) - {"normal", "adam"}))
def test_pytorch_computes_the_same(name):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    kernel = KERNELS[name]
    for case in kernel.cases(name, TINY):
        size = case["size"]
        arguments = name, lambda size=size: kernel.arrays(size), kernel.bytes(size), "cpu"
        makers = load("pytorch_device").kernel_calls(*arguments)
        expected = makers["PyTorch"]()().numpy().reshape(-1)
        for device in map(mg.get_device, ("cpu", "cuda-emulator")):
            result = device.to_numpy(kernel.build_call(device, size)()).reshape(-1)
            assert_close(result, expected, 1e-6 * max(10, np.abs(expected).max()))
        if kernel.flops is None:
            copied = makers["copy"]()()
            assert copied.dtype == torch.uint8
            assert 2 * copied.numel() == kernel.bytes(size)


def test_pytorchs_adam_takes_the_same_step():
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    arrays = KERNELS["adam"].arrays(1000)
    own = [x.copy() for x in arrays]
    own[3][:] = 0  # PyTorch's second moment starts at 0.
    KERNELS["adam"].call(mg.get_device("cpu"), own)()
    tensors = [torch.from_numpy(x.copy()) for x in arrays]
    load("pytorch_device").CALLS["adam"](*tensors)()
    assert_close(own[0], tensors[0].detach().numpy(), 1e-6)
    assert np.abs(own[0] - arrays[0]).max() > 5e-5


# ------------------------------------------------------------------------------------------ steps
@pytest.mark.parametrize("task", [RING, MLP, DCGAN])
@pytest.mark.parametrize("name", ["PyTorch", "PyTorch, compiled"])
def test_pytorch_takes_the_same_steps(task, name, monkeypatch, rng):
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    compiled, nets = [], task.build_networks()
    monkeypatch.setattr(torch, "compile", lambda function, **_: compiled.append(1) or function)
    monkeypatch.setattr(Task, "build_networks", lambda task: nets)
    peer_step = tasks.peer_steps(task, 4, load("pytorch_device"), "cpu")[name]()
    assert len(compiled) == (1 if "compiled" in name else 0)
    own_step = tasks.device_step(task, 4, mg.get_device("cpu"))
    for _ in range(10):
        latent = rng.standard_normal((4, task.model.latent_size), np.float32)
        np.testing.assert_allclose(
            [float(x) for x in own_step(latent)], [float(x) for x in peer_step(latent)], rtol=1e-5
        )


def test_jax_takes_the_same_steps_and_waits_for_them(monkeypatch, rng):
    pytest.importorskip("jax", reason="JAX is not installed: nothing is compared with it")
    nets = MLP.build_networks()
    monkeypatch.setattr(Task, "build_networks", lambda task: nets)
    peer = load("xla_device")
    peer_step = tasks.peer_steps(MLP, 4, peer, "cpu")["JAX"]()
    own_step = tasks.device_step(MLP, 4, mg.get_device("cpu"))
    for _ in range(3):
        latent = rng.standard_normal((4, MLP.model.latent_size), np.float32)
        losses = peer_step(latent)
        assert peer.wait("cpu")() == list(losses)
        np.testing.assert_allclose([float(x) for x in own_step(latent)], losses, rtol=1e-5)


def test_jax_without_a_gpu_is_not_measured_on_the_cpu():
    jax = pytest.importorskip("jax", reason="JAX is not installed: nothing is compared with it")
    if jax.default_backend() != "cpu":
        pytest.skip("JAX has a GPU")
    make = tasks.peer_steps(MLP, 4, load("xla_device"), "cuda")["JAX"]
    with pytest.raises(RuntimeError, match="JAX sees no gpu, only cpu; pip install 'jax"):
        make()


def test_step_runs_on_its_device_and_leaves_losses_there():
    step = tasks.device_step(RING, 2, mg.get_device("reference"))
    assert {x.device.name for x in step()} == {"reference"}


def test_only_the_eager_step_is_not_captured(monkeypatch):
    captured = []
    monkeypatch.setattr(tasks, "capture", lambda step: captured.append(step) or step)
    case, device = next(iter(devices._step_cases(TINY))), mg.get_device("reference")
    case.build_eager(device)()
    assert captured == []
    case.build_call(device)()
    assert len(captured) == 1


def test_default_tasks_and_their_work():
    assert TASKS["ring"].batches == (256,)
    assert 64 in TASKS["MLP"].batches
    cases = [x.fields for x in devices._step_cases(TINY)]
    assert [x["work"] for x in cases] == [lower_bound.multiply_adds(RING, n) for n in (2, 3)]
    assert cases[0]["bytes"] == 16 * (3 * 5 + 6 * 3 + 4 * 4 + 5 * 1)


def test_graph_is_warmed_up_captured_and_replayed_and_owns_its_step(monkeypatch):
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
    reference = weakref.ref(step)
    replay = peer.capture_graph(step)
    del step
    gc.collect()
    assert reference() is not None
    replay()
    assert log == ["wait", "Stream", *3 * ["step"], "wait", "Graph", "step", "replay"]
    assert "PyTorch, CUDA graph" in peer.step_calls(Step, "cuda")
    assert "PyTorch, CUDA graph" not in peer.step_calls(Step, "cpu")
