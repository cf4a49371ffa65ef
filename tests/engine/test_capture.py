"""A captured step is replayed without its Python, and to the same bits."""

import threading
from functools import partial

import cupy_standin
import numpy as np
import pytest
from emulator_helpers import needs_compiler
from helpers import DEVICES, cpu_modules

import minigan as mg
from minigan import nn, ops, optim
from minigan.engine import cpu as cpu_device
from minigan.engine.capture import MAX_CAPTURES
from minigan.engine.cuda import CudaDevice
from minigan.engine.op import Op
from minigan.engine.update import Update
from minigan.gan.presets import PRESETS
from minigan.kernels.runtime import recording
from minigan.kernels.runtime.cpu import launch, replay
from minigan.kernels.runtime.cuda.gpu import Gpu
from minigan.kernels.runtime.emulator.emulator import Emulator
from minigan.training.config import Config
from minigan.training.trainer import Trainer

OPTIMIZERS = {
    "sgd": lambda ps: optim.SGD(ps, 0.05),
    "momentum": lambda ps: optim.SGD(ps, 0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "rmsprop": lambda ps: optim.RMSprop(ps, 0.01),
    "adam": lambda ps: optim.Adam(ps, 0.01),
    "adamw": lambda ps: optim.AdamW(ps, 0.01),
}


class SmallGan:
    """A small GAN with dropout, and a step that takes a batch and gives both losses."""

    def __init__(self, device, optimizer="adam"):
        mg.manual_seed(5)
        self.device = mg.get_device(device)
        with mg.use_device(self.device):
            self.g = nn.Sequential(nn.Dense(3, 20), nn.LeakyReLU(0.2), nn.Dense(20, 5), nn.Tanh())
            self.d = nn.Sequential(
                nn.Dense(5, 20), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Dense(20, 1)
            )
            self.adam_g, self.adam_d = (
                OPTIMIZERS[optimizer](x.parameters()) for x in (self.g, self.d)
            )
        self.ran = 0

    def step(self, real):
        self.ran += 1
        loss = mg.losses.NonSaturating()
        fake = self.g(mg.random.normal((len(real), 3), device=self.device))
        loss_d = loss.discriminator(self.d(real), self.d(fake.detach()))
        self.adam_d.step(mg.grad(loss_d, self.d.parameters()))
        loss_g = loss.generator(self.d(fake))
        self.adam_g.step(mg.grad(loss_g, self.g.parameters()))
        return {"losses": (loss_d, loss_g), "fake": fake}

    def real(self, i, n=7):
        values = np.random.default_rng(i).standard_normal((n, 5), np.float32)
        return mg.tensor(values, device=self.device)

    def state(self):
        parts = (self.g, self.d, self.adam_g, self.adam_d)
        return [x for part in parts for x in part.state_dict().values()]


def run_steps(gan, step, indices):
    """Return the outputs of steps on these batches and the state after them, as numpy arrays."""
    results = []
    for i in indices:
        outputs = step(gan.real(i))
        results += [x.numpy() for x in (*outputs["losses"], outputs["fake"])]
    return results + gan.state()


def assert_equal(xs, ys):
    assert len(xs) == len(ys)
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_array_equal(x, y)


# ---------------------------------------------------------------------------------- the same bits
@DEVICES
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_replay_is_the_eager_step(device, optimizer):
    eager = SmallGan(device, optimizer)
    expected = run_steps(eager, eager.step, range(4))
    gan = SmallGan(device, optimizer)
    assert_equal(run_steps(gan, mg.capture(gan.step), range(4)), expected)
    assert gan.ran == 1


@DEVICES
def test_from_any_state(device):
    """A replay takes the present weights, learning rate and random numbers."""

    def change(gan):
        for net in (gan.g, gan.d):
            net.load_state_dict({k: x * 0.5 for k, x in net.state_dict().items()})
        gan.adam_d.lr = 0.002
        mg.manual_seed(77)

    eager, gan = SmallGan(device), SmallGan(device)
    mg.manual_seed(5)
    run_steps(eager, eager.step, range(2))
    change(eager)
    expected = run_steps(eager, eager.step, range(2, 5))
    step = mg.capture(gan.step)
    mg.manual_seed(5)
    run_steps(gan, step, range(2))
    change(gan)
    assert_equal(run_steps(gan, step, range(2, 5)), expected)
    assert gan.ran == 1


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda-emulator", marks=needs_compiler)])
def test_nothing_depends_on_what_lies_in_the_memory(device):
    eager, gan = SmallGan(device), SmallGan(device)
    mg.manual_seed(5)
    expected = run_steps(eager, eager.step, range(3))
    mg.manual_seed(5)
    step = mg.capture(gan.step)
    first = [x.numpy() for x in step(gan.real(0))["losses"]]
    ((captured,),) = step.captures.values()
    for byte in (0xFF, 0x00):
        captured.recording.memory.fill(byte)
        outputs = step(gan.real(1 if byte else 2))
        first += [x.numpy() for x in outputs["losses"]]
    assert_equal(first, [x for i, x in enumerate(expected[:9]) if i % 3 < 2])
    assert_equal(gan.state(), eager.state())


@pytest.mark.slow
@needs_compiler
def test_the_checked_emulator_finds_nothing_in_a_replay():
    device = CudaDevice("cuda-emulator", Emulator(checked=True))
    eager = SmallGan(device)
    expected = run_steps(eager, eager.step, range(3))
    gan = SmallGan(device)
    assert_equal(run_steps(gan, mg.capture(gan.step), range(3)), expected)


@pytest.mark.slow
@needs_compiler
def test_on_a_gpu_it_is_one_graph(monkeypatch):
    device = CudaDevice("cuda", Gpu(cupy_standin))
    eager = SmallGan(device)
    expected = run_steps(eager, eager.step, range(3))
    gan = SmallGan(device)
    step, batches = mg.capture(gan.step), [gan.real(i) for i in range(3)]
    launched, before = [], len(cupy_standin.graphs)
    prepare, results = Gpu._prepare, []
    for i, batch in enumerate(batches):
        outputs = step(batch)
        results += [x.numpy() for x in (*outputs["losses"], outputs["fake"])]
        if i == 0:
            monkeypatch.setattr(Gpu, "_prepare", lambda *a: launched.append(a[2]) or prepare(*a))
    assert launched == ["copy"] * 2  # the argument
    assert len(cupy_standin.graphs) == before + 2
    assert len(cupy_standin.graphs[-1].noted) > 30
    assert_equal(results + gan.state(), expected)


# --------------------------------------------------------------------------- what a replay does not
@DEVICES
def test_a_replay_runs_no_op_and_takes_no_memory(device, monkeypatch):
    gan = SmallGan(device)
    step = mg.capture(gan.step)
    batch = gan.real(0)
    step(batch)

    def refuse(*_, **__):
        raise AssertionError("called")

    if device == "reference":  # its list is of numpy's own calls
        monkeypatch.setattr(type(gan.device), "run", refuse)
    for name in ("run", "update", "empty", "from_numpy"):
        monkeypatch.setattr(type(gan.device), name, refuse)
    for module in (launch, *cpu_modules()):  # each kernel family imports it by name
        if hasattr(module, "empty"):
            monkeypatch.setattr(module, "empty", refuse)
    monkeypatch.setattr(recording.Recording, "block", refuse)
    step(batch)
    assert gan.ran == 1


def test_on_the_cpu_a_replay_is_one_compiled_loop(monkeypatch):
    if not replay.CAN_CALL_BY_ADDRESS:
        pytest.skip("kernels are called from Python on this platform")
    gan = SmallGan("cpu")
    step = mg.capture(gan.step)
    step(gan.real(0))
    ((captured,),) = step.captures.values()
    (program,) = captured.program.args[0]
    assert isinstance(program, replay.Replay)
    assert 40 < len(program.launches) < 90


# ------------------------------------------------------------------------------ when it runs anew
@pytest.fixture
def traced():
    """A captured function that says how often its Python ran."""

    class Traced:
        ran = 0

    def double(x, **options):
        Traced.ran += 1
        return {"y": ops.multiply(x, 2.0), "same": options, "list": [x, (x,)]}

    Traced.step = staticmethod(mg.capture(double))
    return Traced


def test_arguments_are_copied_and_results_overwritten(traced):
    x = mg.tensor([1.0, 2.0])
    first = traced.step(x)
    second = traced.step(mg.tensor([5.0, 7.0]))
    assert second["y"] is first["y"]
    assert first["y"].numpy().tolist() == [10, 14]
    assert second["list"][1][0].numpy().tolist() == [5, 7]
    assert x.numpy().tolist() == [1, 2]
    assert traced.ran == 1


def test_another_signature_is_another_capture(traced):
    a, b = mg.tensor([1.0]), mg.tensor([1.0, 2.0])
    calls = [
        lambda: traced.step(a),
        lambda: traced.step(b),
        lambda: traced.step(mg.tensor([1.0], "float64")),
        lambda: traced.step(mg.tensor([1.0], device="reference")),
        lambda: traced.step(mg.tensor([1.0], requires_grad=True)),
        lambda: traced.step(a, p=0.5),
        lambda: traced.step(a, p=[b, 1]),
        lambda: traced.step(a, p=(b, 1)),
        lambda: traced.step(a, p=(b, True)),
    ]
    for _ in range(2):
        for call in calls:
            call()
    with mg.no_grad():
        traced.step(a)
    with mg.use_device("reference"):
        traced.step(a)
    assert traced.ran == len(calls) + 2


def test_a_module_in_another_mode_is_another_capture():
    net = nn.Sequential(nn.Dense(4, 4), nn.Dropout(0.5))
    x, ran = mg.tensor(np.ones((8, 4), np.float32)), []
    step = mg.capture(lambda x: ran.append(net.training) or net(x))
    for mode in (True, False, True, False):
        net.train(mode)
        for _ in range(2):
            zeros = (step(x).numpy() == 0).mean()
            assert (zeros > 0.2) == mode
    assert ran == [True, False]


def test_parameters_that_moved_are_found_again():
    net = nn.Dense(4, 4)
    ran, x = [], mg.tensor(np.ones((2, 4), np.float32))
    step = mg.capture(lambda x: ran.append(1) or net(x))
    step(x)
    net.load_state_dict({k: v + 1 for k, v in net.state_dict().items()})  # in place
    np.testing.assert_array_equal(step(x).numpy(), net(x).numpy())
    assert len(ran) == 1
    net.to(dtype="float64").to(dtype="float32")
    net.load_state_dict({k: v + 1 for k, v in net.state_dict().items()})
    np.testing.assert_array_equal(step(x).numpy(), net(x).numpy())
    assert len(ran) == 2
    assert len(next(iter(step.captures.values()))) == 1  # the old one is gone


def test_what_only_an_update_touches_is_found_again_too():
    w, ran = mg.tensor(np.zeros(4), requires_grad=True), []
    sgd, gradient = optim.SGD([w], 1.0), mg.tensor(np.ones(4))
    step = mg.capture(lambda: ran.append(1) or sgd.step([gradient]))
    step()
    w.array = w.array - 10  # elsewhere
    for _ in range(2):
        step()
    assert w.numpy().tolist() == [-13] * 4
    assert len(ran) == 2


def test_a_stream_that_went_to_another_device_is_found_again():
    mg.manual_seed(1)
    eager = [mg.random.normal((4,)).numpy() for _ in range(3)]
    mg.manual_seed(1)
    step = mg.capture(lambda: mg.random.normal((4,)))
    assert_equal([step().numpy()], eager[:1])
    assert_equal([mg.random.normal((4,), device="reference").numpy()], eager[1:2])
    assert_equal([step().numpy()], eager[2:])


def test_another_number_of_threads_is_another_run(monkeypatch):
    ran = []
    step = mg.capture(lambda x: ran.append(1) or ops.exp(x))
    x = mg.tensor(np.zeros(100_000, np.float32))
    for threads in (2, 1, 1):
        for module in (cpu_device, launch):
            monkeypatch.setattr(module, "threads", lambda threads=threads: threads)
        step(x)
    assert len(ran) == 2


def test_not_more_than_a_few_are_kept():
    ran, gate = [], nn.Sequential(*(nn.Dropout(0.0) for _ in range(5)))
    step = mg.capture(lambda x: ran.append(1) or gate(x))
    x = mg.tensor([1.0])

    def call_in_all_modes():
        for i in range(20):
            for k, layer in enumerate(gate):
                layer.train(bool(i >> k & 1))
            step(x)

    with pytest.warns(RuntimeWarning, match=r"captured more than 16 times.*training has changed"):
        call_in_all_modes()
    assert len(ran) == 20
    assert sum(map(len, step.captures.values())) == MAX_CAPTURES


# -------------------------------------------------------------------------------------- refusals
def test_values_cannot_be_looked_at():
    looks = [
        lambda x: x.item(),
        lambda x: x.numpy(),
        float,
        lambda x: bool(x > 0),
        lambda x: f"{x}",
        np.asarray,
        lambda x: x.to("reference"),
    ]
    for look in looks:
        with pytest.raises(RuntimeError, match="a captured step cannot read values"):
            mg.capture(look)(mg.tensor(1.0))
    assert recording.active() is None
    assert mg.tensor(1.0).item() == 1


def test_arguments_that_are_refused():
    step, x = mg.capture(lambda x: x), mg.tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match="an argument is a numpy array"):
        step(np.ones(2))
    with pytest.raises(TypeError, match="an argument is set; tensors"):
        step({1, 2})
    with pytest.raises(ValueError, match="tensor 1 of the arguments has a graph"):
        mg.capture(lambda x, y: x)(x, ops.exp(x))
    weight = mg.tensor([1.0], requires_grad=True)

    def train(w):
        optim.SGD([w], 0.1).step(mg.grad(ops.sum(w), [w]))

    with pytest.raises(ValueError, match="sgd changes an argument of the step, which is a copy"):
        mg.capture(train)(weight)
    other = mg.tensor([1.0], device="reference")
    with pytest.raises(ValueError, match="runs on one device, this one on 'cpu', 'reference'"):
        mg.capture(lambda x: (ops.exp(x), ops.exp(other)))(mg.tensor([1.0]))


def test_a_step_that_fails_is_not_kept():
    ran = []

    def fails(x):
        ran.append(1)
        raise KeyError("own")

    step = mg.capture(fails)
    for _ in range(2):
        with pytest.raises(KeyError, match="own"):
            step(mg.tensor(1.0))
    assert len(ran) == 2
    assert recording.active() is None


def test_results_have_no_graph_and_old_graphs_are_stale():
    gan = SmallGan("cpu")
    step = mg.capture(gan.step)
    step(gan.real(0))
    loss = ops.sum(gan.d(gan.real(1)))
    outputs = step(gan.real(1))
    with pytest.raises(ValueError, match="was changed in place after it was recorded"):
        mg.grad(loss, gan.d.parameters())
    with pytest.raises(ValueError, match="does not depend on input"):
        mg.grad(outputs["losses"][0], gan.d.parameters())
    y = ops.exp(mg.tensor([1.0], requires_grad=True) * outputs["losses"][0])
    step(gan.real(2))
    with pytest.raises(ValueError, match="was changed in place"):
        mg.grad(y, list(y.inputs[0].inputs[:1]))


def test_a_gathers_index_is_checked_in_a_replay():
    table = mg.tensor(np.arange(12.0).reshape(4, 3))
    step = mg.capture(lambda i: ops.gather(table, ops.reshape(i, 2, 1)))
    assert step(mg.tensor([1, 3])).numpy().tolist() == [[3, 4, 5], [9, 10, 11]]
    for bad in (4, -1, 10**12):
        with pytest.raises(IndexError, match="an index is outside the axis"):
            step(mg.tensor([1, bad]))
    assert step(mg.tensor([0, 0])).numpy().tolist() == [[0, 1, 2]] * 2


# ------------------------------------------------------------------------------------ all the rest
def test_a_captured_step_within_another_is_part_of_it():
    ran = []
    inner = mg.capture(lambda x: ran.append("inner") or ops.multiply(x, 2.0))
    outer = mg.capture(lambda x: ran.append("outer") or ops.add(inner(x), 1.0))
    for value in (1.0, 2.0):
        assert outer(mg.tensor(value)).item() == 2 * value + 1
    assert ran == ["outer", "inner"]
    assert inner.captures == {}


def test_each_python_thread_records_its_own():
    step, results = mg.capture(ops.exp), []

    def inside(x):
        thread = threading.Thread(target=lambda: results.append(mg.tensor(2.0).item()))
        thread.start()
        thread.join()
        return step(x)

    assert mg.capture(inside)(mg.tensor(0.0)).item() == 1
    assert results == [2.0]


@pytest.fixture
def own_ops():
    """An op and an update without kernels."""
    cube = Op("cube_", lambda x: x**3, (None,), [])
    count = Update("count_", lambda x: np.add(x, 1, out=x), "x")
    yield cube, count
    del Op.registry["cube_"], Update.registry["count_"]


def test_what_has_no_kernel_runs_its_reference_between_the_kernels(own_ops):
    cube, count = own_ops
    counter = mg.tensor([0.0])

    def step(x):
        y = cube(ops.multiply(x, 2.0))
        count(counter)
        return ops.add(y, counter), ops.transpose(ops.reshape(x, 1, 2))

    captured = mg.capture(step)
    for i in range(1, 4):
        y, column = captured(mg.tensor([1.0, i]))
        assert y.numpy().tolist() == [8 + i, 8 * i**3 + i]
        assert column.numpy().tolist() == [[1], [i]]


def test_without_direct_calls_the_bits_are_the_same(monkeypatch):
    eager = SmallGan("cpu")
    expected = run_steps(eager, eager.step, range(3))
    monkeypatch.setattr(replay, "CAN_CALL_BY_ADDRESS", False)
    gan = SmallGan("cpu")
    step = mg.capture(gan.step)
    assert_equal(run_steps(gan, step, range(3)), expected)
    ((captured,),) = step.captures.values()
    assert all(isinstance(x, replay.Launch) for x in captured.program.args[0])


@DEVICES
def test_views_and_constants_of_the_step_itself(device):
    """A strided parameter, a constant gradient, transposed indices, copies, an empty product."""
    device = mg.get_device(device)

    def make():
        memory = device.from_numpy(np.arange(12.0).reshape(3, 4))
        w = mg.Tensor(memory.T, device, requires_grad=True)
        return w, optim.SGD([w], 0.5, momentum=0.5)

    def step_of(w, sgd, i, x):
        sgd.step([mg.tensor(np.full((4, 3), 2.0), device=device)])
        taken = ops.gather(w, ops.transpose(i), axis=0)
        bias_alone = ops.dense(x[:, :0], w[:0], x[1])
        return ops.reshape(ops.transpose(x), 6), taken, ops.multiply(w, 1.0), bias_alone

    def arguments(k):
        rng = np.random.default_rng(k)
        i = mg.tensor(rng.integers(0, 4, (3, 5)), device=device)
        return i, mg.tensor(rng.standard_normal((2, 3)), device=device)

    results = []
    for captured in (False, True):
        w, sgd = make()
        step = partial(step_of, w, sgd)
        step = mg.capture(step) if captured else step
        results.append([y.numpy() for k in range(4) for y in step(*arguments(k))])
        rubbish = [np.full((4, 3), np.nan) for _ in range(100)]
        results[-1] += [y.numpy() for y in step(*arguments(9))]
        assert len(rubbish) == 100
    assert_equal(*results)


# ----------------------------------------------------------------------------------- the Trainer
SMALL = {"samples": 120, "holdout": 0.0, "batch": 16}
RUNS = {
    **{
        name: {
            "data": "glyphs",
            **preset.options,
            **SMALL,
            **({"size": "16"} if preset.needs_data else {}),
        }
        for name, preset in PRESETS.items()
    },
    "more steps of each": {**SMALL, "data": "ring", "n_critic": 3, "n_generator": 2},
    "minimax": {**SMALL, "data": "ring", "loss": "minimax"},
    "least squares": {**SMALL, "data": "ring", "loss": "leastsquares", "latent": "laplace"},
}


@pytest.mark.parametrize("name", RUNS)
def test_the_trainer_captures_and_the_bits_stay(name):
    rows, states = [], []
    for captured in (False, True):
        trainer = Trainer(Config(**RUNS[name]))
        trainer.captured = captured
        rows.append([trainer.step(norms=i != 1) for i in range(4)])
        trainer.sample(3)  # in between, in eval mode
        rows[-1].append(trainer.step())
        states.append(trainer.state())
    assert rows[0] == rows[1]
    assert states[0][1] == states[1][1]
    assert_equal(*(list(state[0].values()) for state in states))


def test_the_trainer_goes_on_from_a_state_with_the_same_capture():
    trainer = Trainer(Config(**RUNS["more steps of each"]))
    for _ in range(2):
        trainer.step()
    state = trainer.state()
    expected = [trainer.step() for _ in range(3)]
    trainer.load_state(*state)
    assert [trainer.step() for _ in range(3)] == expected
    (captures,) = trainer._captured_update.captures.values()
    assert len(captures) == 1
