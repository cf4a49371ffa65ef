"""Several runs as one: every op, optimizer and training step has the bits of single runs."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
from emulator_helpers import EMULATOR
from helpers import ALL_OPS, DEVICES, draw, samples

import minigan as mg
from minigan import nn, ops
from minigan.engine.device import get_device
from minigan.engine.op import Op
from minigan.stack import MOVED

SEEDS = (5, 0, 2**64 - 1)


def _bits(x: np.ndarray) -> tuple[Any, ...]:
    return x.tobytes(), x.shape, x.dtype


# ----------------------------------------------------------------------------------------- ops
@ALL_OPS
@DEVICES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_op_has_the_bits_of_single_runs(device, name, dtype):
    op, below = Op.registry[name], get_device(device)
    runs = mg.stacked(SEEDS, device)
    for makers, attributes in samples(op):
        drawn = [draw(makers, np.random.default_rng(i), dtype) for i in range(len(SEEDS))]
        rows = [
            np.stack([run[i] for run in drawn]) if isinstance(x, np.ndarray) else x
            for i, x in enumerate(drawn[0])
        ]
        stacks = tuple(runs.restore(x) if isinstance(x, np.ndarray) else x for x in rows)
        many = runs.run(op, stacks, attributes)
        found = runs.to_numpy(many)
        assert many.shape == found.shape[1:]
        assert (many.ndim, many.size) == (found.ndim - 1, found[0].size)
        for run, one in zip(drawn, found, strict=True):
            single = tuple(below.from_numpy(x) if isinstance(x, np.ndarray) else x for x in run)
            assert _bits(one) == _bits(below.to_numpy(below.run(op, single, attributes)))


def test_only_random_numbers_and_what_works_on_images_are_done_run_by_run():
    alone = {name for name, op in Op.registry.items() if name not in MOVED and not op.broadcasts}
    images = {"conv2d", "conv2d_input_grad", "conv2d_weight_grad", "sum_pool", "sum_pool_grad"}
    images |= {"normalize", "normalize_grad", "normalize_sums", "inverse_std"}
    assert alone == {name for name in Op.registry if name.startswith("random_")} | images


def test_an_op_of_ones_own_runs_run_by_run(make_op):
    def flip(x):
        return x[::-1] * x.shape[0]

    op = make_op("flip_", flip, (None,), dtypes="f")
    with mg.use_device(mg.stacked(SEEDS, "reference")) as runs:
        x = np.arange(12.0).reshape(3, 4)
        y = op(mg.Tensor(runs.restore(x), runs))
    assert y.shape == (4,)
    assert y.numpy().tolist() == (4 * x[:, ::-1]).tolist()


# ------------------------------------------------------------------------------------ training
def _nets() -> tuple[nn.Module, nn.Module]:
    generator = nn.Sequential(nn.Dense(2, 9), nn.ReLU(), nn.Dense(9, 2))
    discriminator = nn.Sequential(
        nn.Dense(2, 11), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Dense(11, 1)
    )
    return generator, discriminator


def _train(make: Any, captured: bool, steps: int = 4) -> dict[str, np.ndarray]:
    """A GAN with all that differs by seed: weights, latents, batches, dropout; its whole state.

    A gradient penalty (Gulrajani et al. 2017) takes gradients of gradients.
    """
    points = mg.tensor(np.random.default_rng(0).standard_normal((40, 2), np.float32))
    generator, discriminator = _nets()
    players = (generator, make(generator)), (discriminator, make(discriminator))
    (_, opt_g), (_, opt_d) = players
    loss = mg.losses.NonSaturating()

    def turn() -> mg.Tensor:
        batch = mg.random.permutation(40)[:8].reshape(8, 1)
        real, fake = ops.gather(points, batch), generator(mg.random.normal((8, 2)))
        mixed = ops.multiply(real, mg.random.uniform((8, 1))).detach()
        mixed.requires_grad = True
        (slope,) = mg.grad(discriminator(mixed).sum(), mixed, create_graph=True)
        penalty = ops.mean(ops.power(ops.sum(ops.multiply(slope, slope), axis=1) ** 0.5 - 1.0, 2))
        loss_d = loss.discriminator(discriminator(real), discriminator(fake.detach())) + penalty
        opt_d.step(mg.grad(loss_d, discriminator.parameters()))
        opt_g.step(mg.grad(loss.generator(discriminator(fake)), generator.parameters()))
        return loss_d

    step = mg.capture(turn) if captured else turn
    for k in range(steps):
        opt_g.lr = 0.01 / (k + 1)
        last = step()
    states = {"loss": last.numpy()}
    for name, (net, optimizer) in zip("gd", players, strict=True):
        states |= {f"{name}.{key}": x for key, x in net.state_dict().items()}
        states |= {f"{name}.opt.{key}": x for key, x in optimizer.state_dict().items()}
    return states


OPTIMIZERS = {
    "Adam": lambda net: mg.optim.Adam(net.parameters(), betas=(0.5, 0.99)),
    "SGD": lambda net: mg.optim.SGD(net.parameters(), momentum=0.9),
    "RMSprop": lambda net: mg.optim.RMSprop(net.parameters()),
}


@DEVICES
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("captured", [False, True])
def test_each_run_trains_as_it_would_alone(device, optimizer, captured):
    with mg.use_device(mg.stacked(SEEDS, device)):
        mg.manual_seed(0)
        many = _train(OPTIMIZERS[optimizer], captured)
    for i, seed in enumerate(SEEDS):
        with mg.use_device(device):
            mg.manual_seed(seed)
            one = _train(OPTIMIZERS[optimizer], captured)
        assert one.keys() == many.keys()
        for key, x in one.items():
            assert _bits(x) == _bits(many[key][i]), key
    assert len({many["g.0.weight"][i].tobytes() for i in range(3)}) == 3


def test_a_captured_step_follows_new_seeds():
    with mg.use_device(mg.stacked((1, 2), "cpu")):
        draw_four = mg.capture(lambda: mg.random.normal(4))
        mg.manual_seed(0)
        first, second = draw_four().numpy(), draw_four().numpy()
        mg.manual_seed(1)
        moved = draw_four().numpy()
        mg.manual_seed(0)
        assert np.array_equal(draw_four().numpy(), first)
    assert not np.array_equal(first, second)
    assert np.array_equal(moved[0], first[1])  # 1 + 1 = 2 + 0


def test_streams_go_on_where_they_stood_on_another_device():
    mg.manual_seed(7)
    with mg.use_device("cpu"):
        mg.random.normal(4)
    with mg.use_device(mg.stacked((0, 3), "cpu")):
        many = mg.random.normal(4).numpy()
    for row, seed in zip(many, (7, 10), strict=True):
        with mg.use_device("cpu"):
            mg.manual_seed(seed)
            assert np.array_equal(mg.random.normal(8).numpy()[4:], row)


# ---------------------------------------------------------------------------------- nn.stacked
def test_nets_of_several_seeds():
    mg.manual_seed(0)
    many = nn.stacked(SEEDS, lambda: nn.Dense(3, 4), "cpu")
    assert many.weight.shape == (3, 4)
    assert many.weight.device is mg.stacked(SEEDS, "cpu")
    for i, seed in enumerate(SEEDS):
        mg.manual_seed(seed)
        one = nn.Dense(3, 4)
        assert all(_bits(one.state_dict()[k]) == _bits(x[i]) for k, x in many.state_dict().items())


# ---------------------------------------------------------------------- arrays, shared and own
@DEVICES
def test_values_come_back_with_a_seed_axis_and_go_in_again(device):
    with mg.use_device(mg.stacked(SEEDS, device)) as runs:
        net = nn.Dense(2, 3)
        state = {key: x[::-1].copy() for key, x in net.state_dict().items()}
        net.load_state_dict(state)
        optimizer = mg.optim.Adam(net.parameters(), lr=0.5)
        assert optimizer.lr == 0.5
        optimizer.load_state_dict(optimizer.state_dict())
    for key, x in net.state_dict().items():
        assert _bits(x) == _bits(state[key])
    assert x.shape == (3, 3)
    with pytest.raises(ValueError, match=re.escape("(2, 3) have no leading axis of 3 runs")):
        net.load_state_dict({**state, "weight": np.ones((2, 3), np.float32)})
    assert runs.name == f"{device} x 3"


@DEVICES
def test_a_shared_tensor_lies_in_memory_once(device):
    runs = mg.stacked(SEEDS, device)
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], device=device)
    shared = runs.share(x)
    assert shared.shape == (2, 2)
    assert shared.array.values.strides[0] == 0
    rows = ops.gather(shared, mg.tensor([[1], [1]], device=runs))
    assert rows.numpy().tolist() == [[[3, 4], [3, 4]]] * 3
    weight = mg.tensor(np.eye(2, dtype=np.float32), device=runs)
    assert ops.matmul(shared[1:], weight).numpy().tolist() == [[[3, 4]]] * 3
    with pytest.raises(ValueError, match="assign: a tensor that all runs share is a constant"):
        mg.optim.assign(shared, weight)
    assert x.numpy().tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="share: the tensor is on"):
        runs.share(weight)
    with pytest.raises(TypeError, match="share: a tensor is needed, not ndarray"):
        runs.share(np.ones(3))
    alone = mg.stacked((8,), device).share(x)
    with pytest.raises(ValueError, match="all runs share is a constant"):
        mg.optim.assign(alone[0], alone[1])


@DEVICES
def test_moving_keeps_the_shape_that_a_run_sees(device):
    runs, others = mg.stacked(SEEDS, device), mg.stacked((1, 2, 3), device)
    x = mg.tensor([1.0, 2.0], device=runs)
    assert mg.tensor(x, device=runs).shape == x.to("float64").shape == (2,)
    there = mg.stacked(SEEDS, "reference")
    assert x.to(there).shape == (2,)
    assert x.to(there).to(runs).numpy().tolist() == x.numpy().tolist()
    assert mg.tensor([1.0, 2.0], device=device).to(runs).shape == (2,)
    assert x.to("reference").shape == (3, 2)  # a run's shape has no seeds there
    with pytest.raises(ValueError, match="does not go to a device of seeds"):
        x.to(others)
    with mg.use_device(runs):
        net = nn.Dense(3, 2)
        before = net.state_dict()
        net.to(runs).to(dtype="float64").to("reference" if device == "cpu" else runs)
        net = nn.Dense(3, 2).to(there).to(runs, "float64")
    assert (net.weight.shape, net.weight.dtype) == ((3, 2), np.float64)
    assert before["weight"].shape == (3, 3, 2)


@DEVICES
def test_numbers_are_updated_too(device):
    p = mg.tensor(2.0, device=mg.stacked(SEEDS, device), requires_grad=True)
    mg.optim.SGD([p], lr=0.25).step(mg.grad(p * p, [p]))
    assert p.numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize("device", ["reference", "cpu", EMULATOR])
def test_an_element_is_a_view(device):
    x = mg.tensor([1.0, 2.0], device=device)
    mg.optim.assign(x[1], mg.tensor(5.0, device=device))
    assert x.numpy().tolist() == [1, 5]


def test_a_copied_net_stays_on_its_device():
    net = copy.deepcopy(nn.Sequential(nn.Dense(2, 3)))
    assert net(mg.random.normal((4, 2))).shape == (4, 3)


# -------------------------------------------------------------------------------------- errors
def test_a_value_per_run_is_no_number():
    x = mg.tensor(1.0, device=mg.stacked(range(3), "cpu"))
    for look in (x.item, lambda: float(x), lambda: bool(x)):
        with pytest.raises(ValueError, match=r"item\(\): on device 'cpu x 3' this is 3 values"):
            look()
    assert "[1., 1., 1.]" in repr(x)
    assert mg.tensor(1.0, device=mg.stacked([4], "cpu")).item() == 1


def test_bad_seeds_are_told():
    assert mg.stacked(range(3), "cpu") is mg.stacked([0, 1, 2], get_device("cpu"))
    with pytest.raises(TypeError, match="seeds is int"):
        mg.stacked(3)
    with pytest.raises(ValueError, match="no seeds"):
        mg.stacked([])
    with pytest.raises(TypeError, match=r"seed 1\.5 is no integer"):
        mg.stacked([1.5])
    with pytest.raises(ValueError, match="seed -1 is outside"):
        mg.stacked([-1])
    with pytest.raises(ValueError, match="is stacked already"):
        mg.stacked([1], mg.stacked([2], "cpu"))
    with pytest.raises(ValueError, match="'cpu', the first on 'cpu x 2'"):
        ops.add(mg.tensor(1.0, device=mg.stacked([1, 2], "cpu")), mg.tensor(1.0, device="cpu"))


@pytest.mark.parametrize("device", ["cpu", EMULATOR])
def test_a_layer_of_every_run_is_one_product(device, monkeypatch):
    runs, below = mg.stacked(range(4), device), get_device(device)
    seen = []
    run = type(below).run
    monkeypatch.setattr(
        type(below), "run", lambda self, op, *given: seen.append(op.name) or run(self, op, *given)
    )
    with mg.use_device(runs):
        net, x = nn.Dense(3, 2), mg.random.normal((5, 3))
        seen.clear()
        net(x)
    assert seen == ["dense"]
