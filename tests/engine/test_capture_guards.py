"""A captured step is captured again, or refused, when something that it reads has changed."""

import itertools
import math
import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan import nn, optim
from minigan.engine.capture import MAX_CAPTURES

alpha = 1.0
settings = SimpleNamespace(alpha=1.0, inner=SimpleNamespace(alpha=1.0))


def scaled(x):
    """A helper that a step calls."""
    return x * alpha


class Step:
    rate = 1.0

    def __init__(self):
        self.alpha, self.ran, self.count = 1.0, 0, 0
        self.weights = [1.0, 1.0]
        self.table = np.ones(3, np.float32)

    @property
    def doubled(self):
        return 2 * self.alpha

    def inner(self, x):
        return x * self.alpha

    def by_attribute(self, x):
        self.ran += 1
        return x * self.alpha

    def by_method(self, x):
        self.ran += 1
        return self.inner(x)

    def by_property(self, x):
        self.ran += 1
        return x * self.doubled

    def by_class(self, x):
        self.ran += 1
        return x * self.rate

    def by_list(self, x):
        self.ran += 1
        return x * self.weights[0]

    def by_array(self, x):
        self.ran += 1
        return x * mg.tensor(self.table[:1])

    def by_local(self, x):
        self.ran += 1
        s = settings
        return x * s.alpha

    def __call__(self, x):
        self.ran += 1
        return x * self.alpha


def change_attribute(step):
    step.alpha = 3.0


def change_class(step):
    step.rate = 3.0


def change_list(step):
    step.weights[0] = 3.0


def change_array(step):
    step.table[0] = 3.0


def change_settings(step):
    settings.alpha = 3.0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("by_attribute", change_attribute),
        ("by_method", change_attribute),
        ("by_property", change_attribute),
        ("by_class", change_class),
        ("by_list", change_list),
        ("by_array", change_array),
        ("by_local", change_settings),
        ("__call__", change_attribute),
    ],
)
def test_a_value_that_a_method_reads_is_guarded(name, change, monkeypatch):
    monkeypatch.setattr(settings, "alpha", 1.0)
    owner = Step()
    step = mg.capture(owner if name == "__call__" else getattr(owner, name))
    x = mg.tensor([1.0])
    before = step(x).item()
    change(owner)
    owner.count += 1  # no code of the step reads it
    assert step(x).item() == 3 * before
    assert owner.ran == 2
    assert step(x).item() == 3 * before
    assert owner.ran == 2


def test_values_that_a_function_reads_are_guarded(monkeypatch):
    closed, default = 1.0, [1.0]
    ran = []

    def step(x, weights=default):
        ran.append(1)
        return scaled(x) * closed * settings.inner.alpha * weights[0]

    captured, x = mg.capture(step), mg.tensor([1.0])
    assert captured(x).item() == 1
    closed = 2.0
    assert captured(x).item() == 2
    monkeypatch.setattr(f"{__name__}.alpha", 3.0)
    assert captured(x).item() == 6
    monkeypatch.setattr(settings.inner, "alpha", 5.0)
    assert captured(x).item() == 30
    default[0] = 7.0
    assert captured(x).item() == 210
    assert len(ran) == 5
    closed = 2.0  # an equal number is no change
    assert captured(x).item() == 210
    assert len(ran) == 5


def test_a_global_loop_counter_with_the_name_of_an_attribute_is_not_read(monkeypatch):
    """`optimizer.step` in the code is no read of a global variable `step`."""
    module = {"mg": mg, "ran": []}
    w = mg.tensor([1.0], requires_grad=True)
    module["w"], module["optimizer"] = w, optim.SGD([w], 0.5)
    source = "def train():\n    ran.append(1)\n    optimizer.step(mg.grad(w.sum(), [w]))\n"
    exec(source, module)
    train = mg.capture(module["train"])
    for module["step"] in range(4):
        train()
    assert w.numpy().tolist() == [-1]
    assert module["ran"] == [1]


class Blocks(nn.Module):
    def __init__(self):
        self.blocks = [nn.Dense(3, 3), nn.Tanh()]

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@DEVICES
@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: nn.LeakyReLU(0.5), lambda x: setattr(x, "slope", 0.25)),
        (lambda: nn.Dropout(0.5), lambda x: setattr(x, "p", 0.0)),
        (lambda: nn.BatchNorm1d(3), lambda x: setattr(x, "momentum", 0.5)),
        (lambda: nn.BatchNorm1d(3), lambda x: setattr(x, "eps", 0.5)),
        (lambda: nn.BatchNorm1d(3), lambda x: setattr(x, "running_var", x.running_var * 2.0)),
        (lambda: nn.Dense(3, 3), lambda x: setattr(x, "bias", None)),
        (lambda: nn.Dense(3, 3), lambda x: setattr(x, "weight", new_weight(x))),
        (lambda: nn.Sequential(nn.ReLU()), lambda x: setattr(x, "0", nn.LeakyReLU(0.5))),
        (lambda: nn.Sequential(nn.Tanh()), lambda x: setattr(x, "1", nn.Tanh())),
        (lambda: nn.Sequential(nn.Tanh(), nn.ReLU()), lambda x: delattr(x, "1")),
        (Blocks, lambda x: x.blocks.append(nn.Tanh())),
        (lambda: nn.spectral_norm(nn.Dense(3, 3)), lambda x: setattr(x, "steps", 5)),
        (lambda: nn.spectral_norm(nn.Dense(3, 3)), lambda x: setattr(x, "u", x.v * -1.0)),
    ],
)
def test_a_changed_layer_is_captured_again(device, make, change):
    with mg.use_device(device):
        x = mg.tensor(np.random.default_rng(0).standard_normal((6, 3), np.float32))
        outputs = []
        for captured in (False, True):
            mg.manual_seed(3)
            net = make()
            step = mg.capture(net) if captured else net
            values = [step(x).numpy()]
            change(net)
            values += [step(x).numpy(), step(x).numpy(), *net.state_dict().values()]
            outputs.append(values)
    for x, y in zip(*outputs, strict=True):
        np.testing.assert_array_equal(x, y)


def new_weight(layer):
    return mg.tensor(layer.weight.numpy() * 2, requires_grad=True)


def test_requires_grad_of_a_closed_over_tensor():
    w, x = mg.tensor([2.0], requires_grad=True), mg.tensor([3.0])
    step = mg.capture(lambda: mg.grad((x * w).sum(), [w])[0])
    assert step().item() == 3
    w.requires_grad = False
    with pytest.raises(ValueError, match="does not require gradients"):
        step()


def test_options_of_an_optimizer_are_guarded():
    w = mg.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([w], 1.0, weight_decay=0.0)
    step = mg.capture(lambda: optimizer.step([mg.tensor([0.0])]))
    step()
    optimizer._options["weight_decay"] = 0.5
    step()
    assert w.numpy().tolist() == [0.5]


def test_smooth_of_a_loss_is_read_only():
    loss = mg.losses.NonSaturating()
    with pytest.raises(AttributeError, match="smooth"):
        loss.smooth = 0.9


@pytest.mark.parametrize(("first", "second"), [(0.0, -0.0), (1, 1.0), (1, True), (2.0, 3.0)])
def test_numbers_among_the_arguments_are_compared_by_their_bits(first, second):
    step, x = mg.capture(lambda x, y: x.exp() * (y + math.copysign(1, y))), mg.tensor([0.0])
    for y in (first, second, first):
        assert step(x, y).item() == y + math.copysign(1, y)
    assert sum(map(len, step.captures.values())) == 2


def test_every_value_is_guarded_however_many_there_are():
    names = [f"a{i}" for i in range(2500)]
    owner = SimpleNamespace(**dict.fromkeys(names, 0.0))
    variables = {"owner": owner}
    exec(
        f"def step(x):\n    return x + ({' + '.join(f'owner.{name}' for name in names)})", variables
    )
    step, x = mg.capture(variables["step"]), mg.tensor([1.0])
    assert step(x).item() == 1
    owner.a500 = 1.0  # a limit of 2000 guards left it out
    assert step(x).item() == 2


def test_a_nan_argument_is_captured_once():
    step, x = mg.capture(lambda x, y: x * y), mg.tensor([1.0])
    for _ in range(3):
        assert np.isnan(step(x, math.nan).item())
    assert len(step.captures) == 1


def test_the_number_of_captures_is_bounded_with_a_warning():
    step, x = mg.capture(lambda x, y: x * y), mg.tensor([2.0])

    def call_often():
        for i in range(3 * MAX_CAPTURES):
            assert step(x, float(i)).item() == 2.0 * i

    message = "or another argument another value; pass numbers that change as tensors"
    with pytest.warns(RuntimeWarning, match=message) as warnings:
        call_often()
    assert len(warnings) == 1
    assert sum(map(len, step.captures.values())) == MAX_CAPTURES


def test_a_counter_is_no_reason_for_another_capture():
    """Otherwise the captures of train and eval mode would invalidate each other in every call."""
    net, ran, counts = nn.Dropout(0.5), 0, [0]
    owner = Step()

    @mg.capture
    def step(x):
        nonlocal ran
        ran += 1
        counts[0] += 1
        owner.count += 1
        return net(x)

    for i in range(6):
        net.train(i % 2 == 0)
        step(mg.tensor([1.0]))
    assert (ran, counts, owner.count) == (2, [2], 2)


def test_a_counter_that_the_step_computes_with_is_never_replayed():
    owner = Step()

    def step(x):
        owner.count += 1
        return x * float(owner.count)

    captured, x = mg.capture(step), mg.tensor([1.0])
    with pytest.warns(RuntimeWarning, match="the step changes owner.count, which it also reads"):
        values = [captured(x).item() for _ in range(20)]
    assert values == list(range(1, 21))
    assert not any(captured.captures.values())


def test_a_value_that_the_first_run_sets_is_stable_in_the_second():
    owner, ran = SimpleNamespace(table=None), []

    def step(x):
        ran.append(1)
        if owner.table is None:
            owner.table = mg.tensor([2.0])
        return x * owner.table

    captured = mg.capture(step)
    assert [captured(mg.tensor([i])).item() for i in (1.0, 2.0, 3.0, 4.0)] == [2, 4, 6, 8]
    assert len(ran) == 2


def test_a_layer_that_stores_its_result_is_captured_once_per_mode():
    class Keeping(nn.Dense):
        def forward(self, x):
            self.kept = super().forward(x)
            return self.kept

    net, ran = Keeping(2, 2), []
    step = mg.capture(lambda x: ran.append(1) or net(x))
    for mode in (True, False, True, False):
        net.train(mode)
        x = mg.tensor(np.random.default_rng(0).standard_normal((2, 2), np.float32))
        np.testing.assert_array_equal(step(x).numpy(), nn.Dense.forward(net, x).numpy())
    assert len(ran) == 2


@pytest.mark.parametrize("start", [0.0, "tensor"])
def test_a_state_that_python_carries_from_call_to_call(start):
    owner = SimpleNamespace(state=mg.tensor([0.0]) if start == "tensor" else start)

    def step(x):
        owner.state = owner.state * 0.5 + x
        return owner.state

    captured = mg.capture(step)
    assert [captured(mg.tensor([1.0])).item() for _ in range(4)] == [1, 1.5, 1.75, 1.875]


def test_random_numbers_of_other_libraries_are_refused():
    rng = np.random.default_rng(0)
    draws = {
        "numpy.random": lambda x: x * float(np.random.standard_normal()),  # noqa: NPY002
        "random": lambda x: x * random.random(),
        "rng": lambda x: x * float(rng.standard_normal()),
    }
    for name, draw in draws.items():
        with pytest.raises(ValueError, match=f"draws random numbers from {name}, which a replay"):
            mg.capture(draw)(mg.tensor([1.0]))


def test_a_graph_from_outside_is_refused():
    w, scale = mg.tensor([2.0], requires_grad=True), mg.tensor([3.0], requires_grad=True)
    h = w.exp()
    step = mg.capture(lambda: mg.grad((h * scale).sum(), [scale])[0])
    with pytest.raises(ValueError, match=r"with a graph that was recorded outside \(op 'exp'\)"):
        step()
    step = mg.capture(lambda: mg.grad((h.detach() * scale).sum(), [scale])[0])
    np.testing.assert_array_equal(step().numpy(), h.numpy())
    with mg.no_grad():
        np.testing.assert_array_equal(mg.capture(lambda: h * 2.0)().numpy(), h.numpy() * 2)


def test_a_graph_among_the_arguments_is_refused_in_a_replay_too():
    step, w = mg.capture(lambda x: x * 2.0), mg.tensor([2.0], requires_grad=True)
    step(w)
    with pytest.raises(ValueError, match="tensor 0 of the arguments has a graph"):
        step(w * 2.0)


@DEVICES
def test_results_as_arguments_in_another_order(device):
    with mg.use_device(device):
        swap = mg.capture(lambda x, y: (y, x, x[:1] * 1.0))
        x, y, _ = swap(mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0]))
        assert (x.numpy().tolist(), y.numpy().tolist()) == ([3, 4], [1, 2])
        swap(x, y)
        assert (x.numpy().tolist(), y.numpy().tolist()) == ([1, 2], [3, 4])
        swap(y, y)
        assert (x.numpy().tolist(), y.numpy().tolist()) == ([3, 4], [3, 4])


# ------------------------------------------------------------------------------------------ check
def make_training():
    mg.manual_seed(1)
    w = mg.tensor(np.ones(3), requires_grad=True)
    optimizer = optim.Adam([w], 0.1)

    def step(x):
        noise = mg.random.normal((3,), dtype="float64")
        loss = ((w * x + noise) ** 2).sum()
        optimizer.step(mg.grad(loss, [w]))
        return loss

    return w, step


@DEVICES
def test_check_changes_no_bits(device):
    with mg.use_device(device):
        x, results = mg.tensor(np.arange(3.0)), []
        for check in (0, 3):
            w, step = make_training()
            step = mg.capture(check=check)(step)
            losses = [step(x * float(i)).item() for i in range(6)]
            results.append((losses, w.numpy().tolist(), mg.random.default_generator().state()))
    assert results[0] == results[1]


def test_check_finds_what_has_no_guard():
    clock = itertools.count(1).__next__
    step = mg.capture(lambda x: x * clock(), check=2)
    step(mg.tensor([1.0]))
    with pytest.raises(RuntimeError, match="result 0 of a replay differs from that of an eager"):
        step(mg.tensor([1.0]))
    table = np.ones(10_000)
    w = mg.tensor(np.ones(10_000))
    step = mg.capture(lambda: optim.assign(w, mg.tensor(table)), check=1)
    step()
    table[5] = 2
    with pytest.raises(RuntimeError, match=r"a tensor \(10000,\) that the step updates"):
        step()


# ---------------------------------------------------------------------------------------- threads
def test_one_captured_function_in_several_threads():
    w = mg.tensor(np.eye(8))
    step = mg.capture(lambda x: (x @ w) * 2.0 + 1.0)
    wrong = []

    def call(seed):
        rng = np.random.default_rng(seed)
        for _ in range(200):
            x = rng.standard_normal((4, 8))
            if not np.array_equal(step(mg.tensor(x)).numpy(), x * 2 + 1):
                wrong.append(seed)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
