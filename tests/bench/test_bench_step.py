"""`minigan bench step`: equal steps of all contenders, the lower bound, the report.

No time is asserted.
"""

import io
import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers import assert_close

import minigan as mg
from minigan import bench, nn
from minigan.bench import lower_bound, peers, steps, tasks
from minigan.bench.plan import TASKS, Plan, Task
from minigan.bench.timing import MINIGAN
from minigan.engine.device import Device
from minigan.gan.models import Dcgan, Perceptrons, ResNet

MLP = Task(Perceptrons("", (32, 48), (48, 32), 10), (1, 6, 6), (16,))
RING = Task(Perceptrons("", (9,), (7,), 2), (3,), (4, 2))
WGAN_GP = Task(Perceptrons("", (32, 48), (48, 32), 10), (1, 6, 6), (16,), penalty=10.0)
DCGAN = Task(Dcgan("", 3, 5), (2, 16, 16), (4,))  # two layers in each network
CGAN = Task(Perceptrons("", (32, 48), (48, 32), 10), (1, 6, 6), (16,), condition="concat")
SNGAN = Task(Dcgan("", 3, 5, "spectral"), (2, 16, 16), (4,))
PROJECTION = Task(Dcgan("", 3, 5, "spectral"), (2, 16, 16), (12,), condition="projection")
RESNET = Task(ResNet("", 4, 5), (2, 16, 16), (4,))


class BothNorms:
    """A model whose D has batch norm and spectral norm."""

    latent_size = 5

    def build(self, *_):
        discriminator = nn.Sequential(nn.BatchNorm2d(2), nn.spectral_norm(nn.Dense(2, 1)))
        return nn.Sequential(nn.Dense(5, 2)), discriminator


BOTH_NORMS = BothNorms()
SMALL = (MLP, RING, DCGAN, WGAN_GP, CGAN, SNGAN, PROJECTION, RESNET)
TINY = Plan({"ring": RING, "MLP": MLP}, 8, matmul_seconds=0, step_seconds=0, rest_seconds=0)
COMPILED = "PyTorch, compiled"


@pytest.fixture
def without_peers(monkeypatch):
    for name in ("torch", "jax"):
        monkeypatch.setitem(sys.modules, name, None)  # import torch raises ImportError


def load(module):
    peer = peers.load(module)
    if peer is None:
        pytest.skip(f"{peers.PACKAGES[module]} is not installed: its steps are not compared")
    return {module: peer}


def run(names=("step",), **options):
    """Return what `bench.run` returns and what it prints."""
    output = io.StringIO()
    result = bench.run(names, **{"repeats": 2, "output": output, "plan": TINY, **options})
    return result, output.getvalue()


# ------------------------------------------------------------------------------------------- peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task"),
    [
        *((name, task) for name in steps.PEERS if name != COMPILED for task in SMALL),
        (COMPILED, Task(Perceptrons("", (3,), (4,), 2), (3,), (4,))),  # seconds for each layer
        *((COMPILED, task) for task in SMALL[2:]),  # most of a minute each: run uncompiled
    ],
)
def test_peer_takes_the_same_steps_to_the_same_weights(name, task, rng, monkeypatch):
    if name == COMPILED and task in SMALL:
        monkeypatch.setattr(
            load("pytorch")["pytorch"].torch, "compile", lambda function, **_: function
        )
    makers = steps.contenders(task, task.batches[0], load(steps.PEERS[name]))
    # Some biases have gradients that are 0 but for rounding; Adam makes steps of one learning rate
    # of them. In a WGAN these are the bias of D's last layer and of units active for all samples,
    # in a residual generator those before batch norm, which subtracts them with the mean. Eight
    # steps of both contenders may go in opposite directions.
    player = 1 if task.penalty else 0 if isinstance(task.model, ResNet) else None
    steps_of_rounding = 2 * 8 * tasks.LEARNING_RATE
    offset = steps_of_rounding if task.penalty else 0.0
    pair = []
    for maker in (makers["minigan"], makers[name]):
        step, states = maker()
        pair.append((step, states))
    start = [np.array(x) for state in pair[0][1]() for x in state.values()]
    for _ in range(8):
        latent = rng.standard_normal((task.batches[0], task.model.latent_size), np.float32)
        own, other = (step(latent) for step, _ in pair)
        np.testing.assert_allclose(own[0], other[0], rtol=1e-5)
        np.testing.assert_allclose(own[1], other[1], rtol=1e-5, atol=offset)
    trained, expected = (
        {(i, k): np.array(x) for i, state in enumerate(states()) for k, x in state.items()}
        for _, states in pair
    )
    assert trained.keys() == expected.keys()
    for before, (key, weights) in zip(start, trained.items(), strict=True):
        if key[0] == player and key[1].endswith(("bias", "running_mean")):
            assert_close(weights, expected[key], steps_of_rounding)
            continue
        if weights.shape != (1,) or not key[1].endswith(".u"):  # A unit vector of one number is 1.
            assert np.abs(weights - before).max() > 1e-4
        assert_close(weights, expected[key], 1e-5)


@pytest.mark.parametrize("task", [replace(SNGAN, penalty=1.0), replace(DCGAN, model=BOTH_NORMS)])
def test_tasks_with_other_power_iterations_than_the_peers_are_refused(task):
    with pytest.raises(NotImplementedError, match="peers do one power iteration for a step of D"):
        tasks.peer_arguments(task, 4)


@pytest.mark.parametrize("name", [x for x in steps.PEERS if x != COMPILED])
def test_peer_draws_new_latents(name):
    step, _ = steps.contenders(RING, 4, load(steps.PEERS[name]))[name]()
    losses = [step() for _ in range(10)]
    assert all(isinstance(x, float) and math.isfinite(x) for pair in losses for x in pair)
    # From a fixed latent, the losses of such small networks change by 1e-4 per step at most.
    assert max(abs(a[1] - b[1]) for a, b in pairwise(losses)) > 1e-3


def test_captured_and_eager_minigan_take_the_same_steps(rng):
    makers = steps.contenders(RING, 4, {})
    assert list(makers) == [MINIGAN, steps.EAGER]
    latent = rng.standard_normal((4, 2), np.float32)
    captured, eager = (
        [step(latent) for _ in range(3)] for step, _ in (x() for x in makers.values())
    )
    assert captured == eager


CLIENTS = """
import gc, os
from pathlib import Path
os.environ["NPROC"] = "7"
import numpy as np
from minigan.bench.peers import xla
player = ("Dense", {"bias": False}, {}), {"weight": np.ones((2, 2), np.float32)}
options = {"latent_size": 2, "labels": [], "separate": False, "penalty": 0.0}
for count in (1, 3):
    xla.set_threads(count)
    data = np.ones((3, 2), np.float32)
    step, _ = xla.jitted_step(player, player, data=data, lr=1.0, betas=(0.5, 0.9), **options)
    step()
    gc.collect()  # the previous client
    assert xla.get_threads() == count
    names = [Path(task, "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    print(sum("XLAEigen" in name for name in names), os.environ["NPROC"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads' names are read from /proc")
def test_xla_has_the_number_of_threads_that_was_set():
    load("xla")
    process = subprocess.run(
        [sys.executable, "-c", CLIENTS], capture_output=True, text=True, check=True
    )
    assert process.stdout.splitlines() == ["1 7", "3 7"]


# ------------------------------------------------------------------------------------- lower bound
class Counting(Device):
    """The reference device, which counts multiply-adds and the bytes that the optimizers move."""

    def __init__(self):
        self.products, self.bytes = 0, 0

    def run(self, op, arrays, attributes):
        if op.name in ("matmul", "dense"):
            a, b = arrays[:2]
            self.products += a.shape[0] * a.shape[1] * b.shape[1]
        if op.name in ("conv2d", "conv2d_input_grad"):
            (n, _, *pixels), weights = arrays[0].shape, arrays[1].size
            if op.name == "conv2d":
                pixels = super().run(op, arrays, attributes).shape[2:]
            self.products += n * weights * math.prod(pixels)
        if op.name == "conv2d_weight_grad":
            x, g = arrays
            self.products += g.size * x.shape[1] * math.prod(attributes["kernel"])
        return super().run(op, arrays, attributes)

    def update(self, update, arrays, attributes):
        if update.name == "adam":
            read = [x for part in arrays[:4] for x in part]  # weights, gradients, both moments
            written = [x for i in (0, 2, 3) for x in arrays[i]]
            self.bytes += sum(x.nbytes for x in read + written)
        super().update(update, arrays, attributes)


DEEP_D = Task(Perceptrons("", (9,), (7, 8), 2), (2,), (1,))


@pytest.mark.parametrize("task", [*SMALL, DEEP_D, TASKS["ring"]])
def test_bound_counts_the_products_and_bytes_of_the_steps(task):
    device, batch = Counting(), task.batches[0]
    with mg.use_device(device):
        tasks.minigan_step(task, task.build_networks(), batch, captured=False)()
    assert device.products == lower_bound.multiply_adds(task, batch)
    assert device.bytes == 28 * lower_bound.parameter_count(task)


@pytest.mark.parametrize(
    ("task", "g", "d"),
    [
        (MLP, [10 * 32, 32 * 48, 48 * 36], [36 * 48, 48 * 32, 32]),
        (WGAN_GP, [10 * 32, 32 * 48, 48 * 36], [36 * 48, 48 * 32, 32]),
        (CGAN, [20 * 32, 32 * 48, 48 * 36], [72 * 48, 48 * 32, 32]),
        (RING, [2 * 9, 9 * 3], [3 * 7, 7]),
        (
            TASKS["DCGAN"],
            [100 * 6272, 49 * 128 * 64 * 16, 196 * 64 * 16],
            [196 * 64 * 16, 49 * 64 * 128 * 16, 6272],
        ),
    ],
)
def test_step_has_the_products_of_its_layers(task, g, d):
    # G forward; D and its gradients twice; through D to the fakes; G's gradients. What comes before
    # a first layer has no gradient, except a label's embedding.
    first_g = g[0] if task.condition == "concat" else 0
    first_d = d[0] if task.condition == "concat" else 0
    step_d = 2 * (2 * sum(d) + sum(d[1:]) + first_d)
    parts = sum(g), step_d, 2 * sum(d), sum(g) + sum(g[1:]) + first_g
    # A gradient penalty is a pass of D forward and back to its input; and of the gradient of that,
    # a product for each layer but the last, and one for the gradient of each layer's weights.
    penalty = 4 * sum(d) - d[-1] if task.penalty else 0
    batch = task.batches[0]
    assert lower_bound.multiply_adds(task, batch) == batch * (sum(parts) + penalty)


def test_parameters_of_dcgan():
    weights = [100 * 6272, 128 * 64 * 16, 64 * 16, 64 * 16, 64 * 128 * 16, 6272]
    others = 2 * (128 + 64) + 1 + 64 + 2 * 128 + 1  # batch norm, biases
    assert lower_bound.parameter_count(TASKS["DCGAN"]) == sum(weights) + others


def test_bound_is_work_over_the_measured_rates(monkeypatch):
    arguments = []
    rates_by_name = {"fma_rate": iter([1e9, 4e9, 2e9] * 9), "bandwidth": iter([3e9, 7e9, 1e9] * 9)}
    for name, rates in rates_by_name.items():  # The best one counts.
        monkeypatch.setattr(
            lower_bound.peak, name, lambda *x, rates=rates: arguments.append(x) or next(rates)
        )
    found = list(lower_bound.cases({"ring": RING}, 2))
    cases = lower_bound.with_bounds(found, lower_bound.fma_rate(2))
    count = 3 * 9 + 10 * 3 + 4 * 7 + 8 * 1  # weights and biases
    assert set(arguments) == {("float32", 2), (8 * count, 2)}  # each thread has half of p, g, m, v
    assert [(case["task"], case["batch"]) for case in cases] == [("ring", 4), ("ring", 2)]
    for case in cases:
        products = lower_bound.multiply_adds(RING, case["batch"])
        assert case["lower_bound"] == pytest.approx(products / 2e9 + count * 4e-9)


def test_the_peak_is_the_better_of_before_and_after(monkeypatch, without_peers):
    rates = iter([1e9, 3e9])
    monkeypatch.setattr(lower_bound, "fma_rate", lambda threads: next(rates))
    result, _ = run(["step"])
    for case in result["step"]:
        assert case["flops_per_second"] == 3e9
        optimizer = case["optimizer_bytes"] / case["bytes_per_second"]
        assert case["lower_bound"] == pytest.approx(case["multiply_adds"] / 1.5e9 + optimizer)


# --------------------------------------------------------------------------------------- whole runs
def test_rows_of_missing_peers_say_so(without_peers):
    result, text = run(["step"])
    for case in result["step"]:
        assert list(case["seconds"]) == [MINIGAN, steps.EAGER]
        assert case["skipped"] == {}
    tables = text[text.index("\nstep:") :]
    assert tables.count("not installed") == 3 * len(steps.PEERS)
    assert "ratio to" not in text


@pytest.mark.slow
def test_peers_are_measured_and_one_without_its_compiler_says_so(monkeypatch, tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed: no benchmark with it")
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config.cpp, "cxx", (None, "no-such-compiler"))
    plan = Plan(
        {"ring": Task(Perceptrons("", (3,), (3,), 2), (2,), (5,))}, step_seconds=0, rest_seconds=0
    )
    result, text = run(plan=plan)
    (case,) = result["step"]
    expected = [x for x, module in steps.PEERS.items() if peers.load(module) and x != COMPILED]
    assert list(case["seconds"]) == [MINIGAN, steps.EAGER, *expected]
    assert list(case["skipped"]) == [COMPILED]
    assert "InvalidCxxCompiler" in case["skipped"][COMPILED]
    assert f"{COMPILED} no compiler" in " ".join(text.split())
    assert "ratio to" in text


# ----------------------------------------------------------------------------------------- reports
def case(batch, skipped=(), **seconds):
    rates = {"flops_per_second": 2e11, "bytes_per_second": 4e10, "lower_bound": 0.001}
    named = {name.replace("_", " "): [x] for name, x in seconds.items()}
    return {"task": "MLP", "batch": batch, **rates, "skipped": dict(skipped), "seconds": named}


def test_report():
    error = [(COMPILED, "InductorError: InvalidCxxCompiler: No working C++ compiler found")]
    cases = [
        case(64, error, minigan=0.002, PyTorch=0.004, JAX=0.002),
        case(512, [(COMPILED, "OSError: what")], minigan=0.01, PyTorch=0.02, JAX=0.08),
    ]
    lines = steps.report(cases).splitlines()
    rows = [" ".join(line.split()) for line in lines]
    assert "MLP 64 minigan 2.00 2.00..2.00 50%" in rows
    assert "JAX 80.0 80.0..80.0 8.00 8.00..8.00 1%" in rows
    assert "PyTorch, fused Adam not installed" in rows
    assert "PyTorch, compiled no compiler" in rows
    assert "PyTorch, compiled OSError" in rows
    assert rows[-5:-1] == [
        "ratio to MLP 64 MLP 512 mean minimum",
        "PyTorch 2.00 2.00 2.00 2.00",
        "JAX 1.00 8.00 2.83 1.00",
        "the fastest peer 1.00 2.00 1.41 1.00",
    ]
    assert max(map(len, lines)) <= 100
