"""A user's script with types, on which `mypy --strict` finds nothing.

`engine/test_typing.py` checks it and also runs it. `assert_type` is what mypy must infer.
"""

from typing import assert_type

import numpy as np

import minigan as mg
from minigan import Tensor, nn, ops
from minigan.nn import functional

ring = mg.data.load("ring", samples=512)
data = mg.tensor(ring.values)
G = nn.Sequential(nn.Dense(2, 16), nn.ReLU(), nn.Dense(16, 2))
D = nn.Sequential(nn.Dense(2, 16), nn.LeakyReLU(), nn.Dense(16, 1))
opt_g = mg.optim.Adam(G.parameters(), betas=(0.0, 0.99))
opt_d = mg.optim.Adam(D.parameters(), betas=(0.0, 0.99))
loss = mg.losses.NonSaturating()


class Residual(nn.Module):
    """A layer of a user's own."""

    def __init__(self, width: int) -> None:
        self.inner = nn.Dense(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + ops.tanh(self.inner(x))


@mg.capture
def step(real: Tensor) -> tuple[Tensor, Tensor]:
    fake = G(mg.random.normal((len(real), 2)))
    loss_d = loss.discriminator(D(real), D(fake.detach()))
    opt_d.step(mg.grad(loss_d, D.parameters()))
    loss_g = loss.generator(D(fake))
    opt_g.step(mg.grad(loss_g, G.parameters()))
    return loss_d, loss_g


@mg.capture(check=1)
def total(x: Tensor, scale: float = 2.0) -> Tensor:
    return x.sum() * scale


def penalty(critic: nn.Module, x: Tensor) -> Tensor:
    (gx,) = mg.grad(critic(x).sum(), [x], create_graph=True)
    assert_type(gx, Tensor)
    return ((gx.norm(2, axis=1) - 1.0) ** 2).mean()


x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
assert_type(step(data[:64]), tuple[Tensor, Tensor])
assert_type(total(data, scale=3.0), Tensor)
assert_type(G(data[:2]), Tensor)
assert_type(Residual(2)(data[:2]), Tensor)
assert_type(mg.grad(penalty(D, x), D.parameters()[:1]), tuple[Tensor, ...])
assert_type(mg.grad(x.sum(), [x], allow_unused=True), tuple[Tensor | None, ...])

assert_type(2.0 * x @ x.T + x**2 / 3.0 - abs(x), Tensor)
assert_type(x[[0, 1], :1][x[:, 0] > 0], Tensor)
assert_type((x > 0) & ~(x < 1), Tensor)
assert_type(x == 1.0, Tensor)
assert_type([row for row in x], list[Tensor])
assert_type(x.std(axis=(0, 1), correction=1).clip(min=0.0).squeeze().flatten(), Tensor)
assert_type(mg.where(x > 0, x, 0.0), Tensor)
assert_type(mg.stack([x, mg.zeros_like(x)], axis=-1), Tensor)
assert_type(mg.concatenate([mg.ones((2, 2)), mg.full((2, 2), 0.5)]), Tensor)
assert_type(ops.softmax(ops.tanh(x)), Tensor)
assert_type(ops.conv2d(mg.zeros((1, 1, 4, 4)), mg.ones((1, 1, 3, 3))), Tensor)
assert_type(functional.mse_loss(x, 1.0), Tensor)
assert_type(functional.cross_entropy(x, mg.arange(2)), Tensor)
assert_type(x.shape, tuple[int, ...])
array: np.ndarray = x.numpy()
with mg.no_grad(), mg.use_device("cpu"):
    state = G.state_dict()
mg.save("G.safetensors", state, {"step": 1})
tensors, info = mg.load("G.safetensors")
G.load_state_dict(tensors)
print(f"{x.mean():.3f}", x.tolist(), float(x.max()), G)
