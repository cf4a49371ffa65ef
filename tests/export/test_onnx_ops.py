"""Each op of the table makes the same numbers in onnxruntime; what lacks a form is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_helpers import Function, images, run_onnx

import minigan as mg
from minigan import nn, ops
from minigan.export import source, trace
from minigan.export.operations import OPERATIONS

pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")

TABLE = np.linspace(-1, 1, 12, dtype=np.float32).reshape(6, 2)
KERNEL = np.linspace(-1, 1, 54, dtype=np.float32)


def kernel(*shape: int) -> mg.Tensor:
    return mg.tensor(KERNEL[: int(np.prod(shape))].reshape(shape))


# Functions of features (n, 6). Between them they run every op of the table.
FUNCTIONS: dict[str, Callable[[mg.Tensor], mg.Tensor]] = {
    "arithmetic": lambda x: (x + 2.0) * x - x / (x * x + 1.5) - (-x) + 3.0 / (x * x + 1.0),
    "functions": lambda x: ops.exp(x) + ops.log(x * x + 0.1) + ops.sqrt(x * x) + ops.abs(x),
    "activations": lambda x: ops.relu(x) + ops.softplus(x) + ops.tanh(x) * ops.sigmoid(x),
    "smooth activations": lambda x: ops.gelu(x * 3.0) + ops.silu(x) + ops.gelu(x, "tanh"),
    "leaky_relu": lambda x: ops.leaky_relu(x, 0.3),
    "power": lambda x: x**2 + (x * x + 0.5) ** 1.7 + 2.0**x,
    "extremes": lambda x: ops.maximum(x, 0.1) + ops.minimum(x, -x) + x.clip(-0.2, 0.3),
    "one bound": lambda x: x.clip(max=0.1) + ops.sign(x),
    "where": lambda x: mg.where((x > 0.1) | (x <= -0.3), x, 1.0) + mg.where(x < 0, 0.5, x),
    "comparisons": lambda x: mg.where((x >= 0) & ~(x == 1) & (x != 2), x * 2.0, x),
    "cast": lambda x: (x > 0).to("float32") + (x * 10.0).to("int64").to("float32"),
    "reductions": lambda x: x.sum(1, keepdims=True) + x.mean(1, keepdims=True) + x.max(1)[:, None],
    "more reductions": lambda x: x.var(1, keepdims=True) + ops.min(x, 1)[:, None] + x.norm(axis=1)[
        :, None
    ],
    "count": lambda x: x + (x > 0).sum(1, keepdims=True).to("float32"),
    "argmax": lambda x: ops.argmax(x, 1).to("float32")[:, None] + x,
    "softmax": lambda x: ops.softmax(x, 1) + ops.log_softmax(x, 1),
    "matmul": lambda x: x @ mg.tensor(TABLE) @ mg.tensor(TABLE.T.copy()),
    "batched matmul": lambda x: x.reshape(-1, 3, 2) @ x.reshape(-1, 2, 3),
    "slices": lambda x: ops.concatenate([x[:, 1:], x[:, :1], x[:, ::-2], x[:, -1:]], axis=1),
    "integers": lambda x: x[:, 2] * 2.0 + x[..., -1],
    "new axes": lambda x: x[:, None, :, None] * x[:, 0][:, None, None, None],
    "pad": lambda x: ops.pad(x, [(0, 0), (2, 1)], 0.5),
    "transpose": lambda x: x.reshape(-1, 2, 3).transpose(0, 2, 1).reshape(-1, 6),
    "two sizes that depend on n": lambda x: ops.broadcast_to(
        x.reshape(x.shape[0] * 2, 3), (2, x.shape[0] * 2, 3)
    ).reshape(x.shape[0], 2, -1),
    "the last of a batch": lambda x: x[: x.shape[0]] + x[-1:] + x[x.shape[0] - 1 :],
    "all but the last": lambda x: ops.pad(x[: x.shape[0] - 1], [(1, 0), (0, 0)]),
    "rows": lambda x: ops.gather(mg.tensor(TABLE), mg.where(x > 0, 5, 2)[:, :1]),
    "positions": lambda x: x[:, [4, 0, 0]],
    "depth": lambda x: ops.depth_to_space(x.reshape(-1, 6, 1, 1)[:, :4], 2),
    "conv2d": lambda x: ops.conv2d(images(x), kernel(2, 1, 3, 2), None, (2, 1), (1, 0)),
    "one window": lambda x: ops.conv2d(images(x), kernel(2, 1, 4, 6)),
    "transposed": lambda x: ops.conv_transpose2d(
        images(x), kernel(1, 2, 3, 4), kernel(2), (2, 3), (1, 0), (1, 2)
    ),
    "one pixel": lambda x: ops.conv_transpose2d(x.reshape(-1, 6, 1, 1), kernel(6, 1, 3, 3)),
    "pools": lambda x: ops.avg_pool2d(images(x), (2, 3), 1, 1),
    "max pools": lambda x: ops.max_pool2d(images(x), (2, 4), (3, 3), (1, 2), ceil_mode=True),
    "windows beyond the image": lambda x: ops.max_pool2d(images(x), (2, 3), (3, 4), ceil_mode=True),
    "upsampling": lambda x: ops.upsample_nearest(images(x), (3, 2)),
    "layer norm": lambda x: ops.layer_norm(x, 1, mg.tensor(TABLE[:, 0].copy())),
    "group norm": lambda x: ops.group_norm(images(x), 1),
    "channels": lambda x: ops.group_norm(x.reshape(-1, 2, 3) * 3.0, 2, kernel(2), kernel(2)),
}  # fmt: skip


def described(function: Any) -> source.Source:
    return source.describe(Function(function), latent_size=4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_same_numbers(name: str, tmp_path: Path) -> None:
    net = Function(FUNCTIONS[name])
    path = mg.export.onnx(net, tmp_path / "g.onnx", latent_size=4).path
    for n in (1, 3, 10):
        z = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32)
        want = net(mg.tensor(z)).numpy()
        got = run_onnx(path, z)
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= 1e-5 * max(1.0, np.abs(want).max())


def test_every_op_of_the_table_is_compared() -> None:
    reached = set()
    for function in FUNCTIONS.values():
        net = described(function)
        reached |= {call.op for call in trace.trace(net.net, net.inputs, OPERATIONS).calls}
    assert OPERATIONS.keys() - reached == set()


def test_statistics_of_the_batch_are_those_of_onnx_too(tmp_path: Path) -> None:
    """`ops.batch_norm` has no mode: its sizes are the batch's in both."""
    net = Function(lambda x: ops.batch_norm(x, mg.tensor(TABLE[:, 0].copy()), x[0]))
    path = mg.export.onnx(net, tmp_path / "g.onnx", latent_size=4).path
    z = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    assert np.abs(run_onnx(path, z) - net(mg.tensor(z)).numpy()).max() <= 1e-5


# ------------------------------------------------------------------------------------ what is not
class Stateful(nn.Module):
    def __init__(self) -> None:
        self.layer = nn.Dense(4, 2)
        self.count = mg.tensor([0.0, 0.0])

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        mg.optim.assign(self.count, self.count + 1.0)
        return self.layer(x) + self.count


REFUSED = {
    "mixes the batch": (
        nn.Sequential(nn.Dense(4, 6), nn.MinibatchDiscrimination(6, 2, 3)),
        "has a MinibatchDiscrimination, which makes a sample depend on the others",
    ),
    "a mean over the batch": (Function(lambda x: x - x.mean(0)), "divide takes depends on the b"),
    "an op without a form": (
        nn.Sequential(nn.Dense(4, 4), Function(lambda x: ops.l1_distances(x, x))),
        r"the op 'l1_distances' has no form in ONNX here; these have: abs, add, .*, where; mg.exp",
    ),
    "random numbers": (
        Function(lambda x: x + mg.random.normal(x.shape)),
        r"draws random numbers in eval mode \(random_normal\)",
    ),
    "values": (Function(lambda x: x if x.sum().item() > 0 else -x), "reads the values of a tensor"),
    "a state": (Stateful(), r"changes a tensor in eval mode \(assign\)"),
    "other ops for n = 2": (Function(lambda x: x if x.shape[0] == 2 else -x), "other ops for ano"),
    "no latents": (Function(lambda x: mg.zeros((x.shape[0], 2))), "does not depend on its latents"),
    "scattering": (
        Function(lambda x: mg.ops.shape.slice_scatter(
            x, shape=(x.shape[0], 12), index=(slice(None), slice(0, 12, 2)), value=0.0
        )),
        "scattering into an array has no form in ONNX here; ops.pad has",
    ),
    "no parameters": (nn.Sequential(nn.Tanh()), "has no parameters"),
    "float64": (nn.Sequential(nn.Dense(4, 2)).to("float64"), r"0.weight is float64; .* float32"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_and_nothing_written(case: str, tmp_path: Path) -> None:
    net, message = REFUSED[case]
    with pytest.raises(mg.export.ExportError, match=message) as caught:
        mg.export.onnx(net, tmp_path / "g.onnx", latent_size=4)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_layer_is_named() -> None:
    net = REFUSED["an op without a form"][0]
    assert isinstance(net, nn.Sequential)
    with pytest.raises(mg.export.ExportError, match=r"^in layer 1: the op 'l1_distances'"):
        mg.export.onnx(net, "g.onnx", latent_size=4)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Dense(4, 2))
    mg.optim.assign(net[0].bias, mg.tensor([0.0, np.nan]))
    for write, name in ((mg.export.onnx, "g.onnx"), (mg.export.torch, "g.safetensors")):
        with pytest.raises(mg.export.ExportError, match=r"0.bias holds NaN or infinite"):
            write(net, tmp_path / name, latent_size=4)
    assert list(tmp_path.iterdir()) == []


def test_an_op_of_ones_own_gets_a_form(
    make_op: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        softsign = make_op("softsign_export", lambda x: x / (1 + np.abs(x)), (None,))
    net = Function(softsign)
    with pytest.raises(mg.export.ExportError, match="the op 'softsign_export' has no form"):
        mg.export.onnx(net, tmp_path / "g.onnx", latent_size=4)
    monkeypatch.setitem(
        mg.export.OPERATIONS, "softsign_export", lambda graph, call, x: graph.node("Softsign", [x])
    )
    export = mg.export.onnx(net, tmp_path / "g.onnx", latent_size=4)
    assert export.difference is not None
    assert export.difference < 1e-6
