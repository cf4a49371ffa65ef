"""Copies by `pickle`, in this and another process, and by `copy`: tensors, networks, ops, steps."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan import nn
from minigan.engine.op import Op
from minigan.engine.update import Update

COPIES: list[Callable[[Any], Any]] = [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy]
X = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)


@mg.capture
def step(x: mg.Tensor) -> mg.Tensor:
    return x * 2.0


def _networks() -> dict[str, tuple[nn.Module, mg.Tensor]]:
    image, points = mg.ones((2, 1, 8, 8)), X.detach()
    return {
        "points": (
            nn.Sequential(
                nn.spectral_norm(nn.Dense(2, 4)),
                nn.BatchNorm1d(4),
                nn.LeakyReLU(),
                nn.Dropout(0.5),
                nn.MinibatchDiscrimination(4, 2, 2),
            ),
            points,
        ),
        "image": (
            nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
                nn.Upsample(2),
                nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1),
                nn.GroupNorm(1, 2),
                nn.MinibatchStdDev(),
                nn.AvgPool2d(2),
                nn.Flatten(),
            ),
            image,
        ),
        "embedding": (nn.Embedding(4, 2), mg.arange(3)),
    }


@DEVICES
@pytest.mark.parametrize("copied", COPIES)
def test_tensors(copied: Callable[[Any], Any], device: str) -> None:
    for values in (np.float32(1.5), np.array([[1, 2]]), np.array([True]), np.zeros((0, 2))):
        x = mg.tensor(values, device=device)
        y = copied(x)
        assert (y.device, y.dtype, y.shape, y.tolist()) == (x.device, x.dtype, x.shape, x.tolist())
        mg.optim.assign(y, x[...])
        assert (y.version, x.version) == (1, 0)


@DEVICES
@pytest.mark.parametrize("copied", COPIES)
def test_a_graph_is_copied_with_its_leaves(copied: Callable[[Any], Any], device: str) -> None:
    w = mg.tensor([3.0], device=device, requires_grad=True)
    v, y = copied((w, (w * w).tanh().sum()))
    assert v is not w
    assert y.op is Op.registry["sum"]
    assert mg.grad(y, [v])[0].tolist() == mg.grad((w * w).tanh().sum(), [w])[0].tolist()
    with pytest.raises(ValueError, match="does not depend on input 0"):
        mg.grad(y, [w])


@pytest.mark.parametrize("copied", COPIES)
def test_ops_and_updates_are_the_same_objects(copied: Callable[[Any], Any]) -> None:
    for x in (*Op.registry.values(), *Update.registry.values()):
        assert copied(x) is x
    assert copied(step) is step


def test_an_op_that_another_process_does_not_have(make_op: Callable[..., Op]) -> None:
    data = pickle.dumps(make_op("only_here", np.tanh, (None,)))
    del Op.registry["only_here"]
    with pytest.raises(KeyError, match="no Op named 'only_here' exists in this process; import"):
        pickle.loads(data)


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("name", ["points", "image", "embedding"])
def test_networks_have_the_same_bits_and_memory_of_their_own(
    name: str, copied: Callable[[Any], Any]
) -> None:
    net, x = _networks()[name]
    net(x)  # running means and spectral norms have moved
    other = copied(net)
    results = []
    for module in (net, other):
        mg.manual_seed(1)
        results.append([module(x).numpy(), *module.state_dict().values()])
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()
    before = net.state_dict()
    for p in other.parameters():
        mg.optim.assign(p, p.detach() + 1.0)
    for key, a in net.state_dict().items():
        assert a.tobytes() == before[key].tobytes()


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(
    "make",
    [
        mg.optim.Adam,
        lambda p: mg.optim.SGD(p, momentum=0.9, nesterov=True),
        mg.optim.RMSprop,
        mg.optim.AdamW,
    ],
)
def test_an_optimizer_goes_on_with_its_network(
    make: Callable[..., mg.optim.Optimizer], copied: Callable[[Any], Any]
) -> None:
    net = nn.Dense(2, 1)
    pair: tuple[nn.Module, mg.optim.Optimizer] = net, make(net.parameters())
    _train(*pair)
    other = copied(pair)
    assert other[1].parameters[0] is other[0].parameters()[0]
    _train(*pair)
    _train(*other)
    for a, b in ((pair[0], other[0]), (pair[1], other[1])):
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
            assert x.tobytes() == y.tobytes()


def _train(net: nn.Module, optimizer: mg.optim.Optimizer) -> None:
    optimizer.step(mg.grad((net(X.detach()) ** 2).mean(), net.parameters()))


def test_another_process_has_the_same_bits(tmp_path: Path) -> None:
    """A network, its optimizer, a tensor with a graph and an op, in a process that made none."""
    net = _networks()["points"][0]
    optimizer = mg.optim.Adam(net.parameters())
    _train(net, optimizer)
    y = (X * X).tanh()
    (tmp_path / "before").write_bytes(pickle.dumps((net, optimizer, X, y, mg.ops.tanh)))
    program = """
import pickle, sys
folder = sys.argv[1]
with open(f"{folder}/before", "rb") as file:
    net, optimizer, x, y, tanh = pickle.load(file)
import minigan as mg
assert tanh is mg.ops.tanh is y.op
mg.manual_seed(1)
optimizer.step(mg.grad((net(x.detach()) ** 2).mean(), net.parameters()))
(gx,) = mg.grad(y.sum(), [x])
with open(f"{folder}/after", "wb") as file:
    pickle.dump((net.state_dict(), optimizer.state_dict(), gx), file)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    net_state, optimizer_state, gx = pickle.loads((tmp_path / "after").read_bytes())
    mg.manual_seed(1)
    _train(net, optimizer)
    for ours, theirs in ((net.state_dict(), net_state), (optimizer.state_dict(), optimizer_state)):
        assert [x.tobytes() for x in ours.values()] == [x.tobytes() for x in theirs.values()]
    assert gx.tolist() == mg.grad((X * X).tanh().sum(), [X])[0].tolist()
