"""Ten training steps of pix2pix and of CycleGAN beside the same nets and steps in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigan as mg
from minigan.translation.config import TranslationConfig
from minigan.translation.players import build_players

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
F = torch.nn.functional if hasattr(torch, "nn") else None

STEPS, BATCH, SIDE = 10, 3, 8


class TorchNets:
    """The nets of a TranslationPlayers in PyTorch, with the same weights, from its state dict."""

    def __init__(self, module: Any, norm: str) -> None:
        self.norm = norm
        state = {name: torch.tensor(x) for name, x in module.state_dict().items()}
        trained = [name for name, _ in module.named_parameters()]
        self.state = {k: x.requires_grad_(k in trained) for k, x in state.items()}
        self.parameters = [self.state[name] for name in trained]

    def _normalize(self, x: Any, name: str) -> Any:
        s = self.state
        weight, bias = s[f"{name}.weight"], s[f"{name}.bias"]
        if self.norm == "instance":
            return F.instance_norm(x, weight=weight, bias=bias)
        mean, var = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, weight, bias, training=True)

    def _conv(self, x: Any, name: str, stride: int = 1) -> Any:
        return F.conv2d(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), stride, 1)

    def unet(self, x: Any, at: str, depth: int, blocks: int) -> Any:
        x = F.leaky_relu(self._conv(x, f"{at}first.0"), 0.2)
        skips = [x]
        for i in range(depth):
            x = self._normalize(self._conv(x, f"{at}down.{i}.0", 2), f"{at}down.{i}.1")
            x = F.leaky_relu(x, 0.2)
            skips.append(x)
        x = skips.pop()
        for i in range(blocks):
            name = f"{at}middle.{i}.main"
            y = F.relu(self._normalize(self._conv(x, f"{name}.0"), f"{name}.1"))
            x = x + self._normalize(self._conv(y, f"{name}.3"), f"{name}.4")
        for i in range(depth):
            weight = self.state[f"{at}up.{i}.0.weight"]
            x = F.conv_transpose2d(x, weight, stride=2, padding=1)
            x = F.relu(self._normalize(x, f"{at}up.{i}.1"))
            x = torch.cat([x, skips.pop()], 1)
        return torch.tanh(self._conv(x, f"{at}last.0"))

    def patches(self, x: Any, at: str, depth: int) -> list[Any]:
        maps = []
        for name in [*(f"{at}hidden.{i}.0" for i in range(depth)), f"{at}last"]:
            is_last = name.endswith("last")
            weight, bias = (self.state[f"{name}.module.{k}"] for k in ("weight", "bias"))
            w = weight.detach().reshape(len(weight), -1)
            u, v = self.state[f"{name}.u"], self.state[f"{name}.v"]
            v.copy_(F.normalize(u @ w, dim=0))
            u.copy_(F.normalize(w @ v, dim=0))
            sigma = u.clone() @ weight.reshape(len(weight), -1) @ v.clone()
            x = F.conv2d(x, weight / sigma, bias, 1 if is_last else 2, 1)
            x = x if is_last else F.leaky_relu(x, 0.2)
            maps.append(x)
        return maps


def _players(config: TranslationConfig, inputs: int, channels: int) -> Any:
    """Players with nets of float64 and optimizers of their own."""
    with mg.random.use_generator(mg.random.Generator(3)):
        players = build_players(config, inputs, channels)
    nets = [x.to(dtype="float64") for x in (players.generators, players.discriminators)]
    return type(players)(config, *nets)


def _compare(players: Any, g: TorchNets, d: TorchNets) -> None:
    for module, nets in ((players.generators, g), (players.discriminators, d)):
        for name, x in module.state_dict().items():
            np.testing.assert_allclose(x, nets.state[name].detach(), rtol=0, atol=1e-8)


def _least_squares(real: Any, fake: Any) -> Any:
    return (((real - 1) ** 2).mean() + (fake**2).mean()) / 2


@pytest.mark.parametrize("task", ["outline", "inpaint"])
def test_pix2pix_trains_as_in_pytorch(task):
    config = TranslationConfig(
        task=task,
        width=4,
        blocks=1,
        batch=BATCH,
        features=2.0,
        adversarial=0.5,
        l1=100.0,
        lr_d=2e-3,
        schedule="constant",
    ).filled()
    inputs = 2 if task == "inpaint" else 1
    players = _players(config, inputs, 1)
    g, d = TorchNets(players.generators, "batch"), TorchNets(players.discriminators, "batch")
    adam_g = torch.optim.Adam(g.parameters, config.lr_g, (config.beta1, config.beta2))
    adam_d = torch.optim.Adam(d.parameters, config.lr_d, (config.beta1, config.beta2))
    step, rng = mg.capture(players.step), np.random.default_rng(0)
    for _ in range(STEPS):
        y = rng.uniform(-1, 1, (BATCH, 1, SIDE, SIDE))
        mask = np.zeros_like(y)
        mask[:, :, 2:6, 1:5] = 1
        x = np.concatenate([y * (1 - mask), mask], 1) if task == "inpaint" else np.sign(y)
        output = step([mg.tensor(x), mg.tensor(y)])
        tx, ty = torch.tensor(x), torch.tensor(y)
        name = "0.net." if task == "inpaint" else "0."
        fake = g.unet(tx, name, 2, 1)
        if task == "inpaint":
            fake = tx[:, :1] * (1 - tx[:, 1:]) + fake * tx[:, 1:]
        real_pair, fake_pair = torch.cat([tx, ty], 1), torch.cat([tx, fake], 1)
        logits = d.patches(torch.cat([real_pair, fake_pair.detach()]), "0.", 2)[-1]
        loss_d = _least_squares(logits[:BATCH], logits[BATCH:])
        adam_d.zero_grad()
        loss_d.backward()
        adam_d.step()
        fake_maps, real_maps = (d.patches(z, "0.", 2) for z in (fake_pair, real_pair))
        loss_g = ((fake_maps[-1] - 1) ** 2).mean() / 2
        pairs = zip(real_maps[:-1], fake_maps[:-1], strict=True)
        features = sum((r.detach() - f).abs().mean() for r, f in pairs) / 2
        total = 0.5 * loss_g + 100 * (fake - ty).abs().mean() + 2 * features
        adam_g.zero_grad()
        total.backward()
        adam_g.step()
        assert output["loss_d"].item() == pytest.approx(loss_d.item(), abs=1e-8)
        assert output["loss_g"].item() == pytest.approx(loss_g.item(), abs=1e-8)
        assert output["features"].item() == pytest.approx(2 * features.item(), abs=1e-8)
    _compare(players, g, d)


def test_cyclegan_trains_as_in_pytorch():
    config = TranslationConfig(
        task="unpaired",
        target="inverted",
        width=4,
        blocks=1,
        batch=BATCH,
        adversarial=0.5,
        identity=5.0,
    )
    config = config.replace(schedule="constant").filled()
    players = _players(config, 1, 1)
    g, d = TorchNets(players.generators, "instance"), TorchNets(players.discriminators, "instance")
    adams = [
        torch.optim.Adam(x.parameters, config.lr_g, (config.beta1, config.beta2)) for x in (g, d)
    ]
    step, rng = mg.capture(players.step), np.random.default_rng(0)
    for _ in range(STEPS):
        a, b = (rng.uniform(-1, 1, (BATCH, 1, SIDE, SIDE)) for _ in range(2))
        output = step([mg.tensor(a), mg.tensor(b)])
        ta, tb = torch.tensor(a), torch.tensor(b)
        there, back = (lambda x, at=at: g.unet(x, at, 2, 1) for at in ("0.", "1."))
        fake_b, fake_a = there(ta), back(tb)
        loss_d = torch.zeros((), dtype=torch.float64)
        for at, real, fake in (("0.", tb, fake_b), ("1.", ta, fake_a)):
            logits = d.patches(torch.cat([real, fake.detach()]), at, 2)[-1]
            loss_d = loss_d + _least_squares(logits[:BATCH], logits[BATCH:])
        adams[1].zero_grad()
        loss_d.backward()
        adams[1].step()
        loss_g = ((d.patches(fake_b, "0.", 2)[-1] - 1) ** 2).mean() / 2
        loss_g = loss_g + ((d.patches(fake_a, "1.", 2)[-1] - 1) ** 2).mean() / 2
        cycle = (back(fake_b) - ta).abs().mean() + (there(fake_a) - tb).abs().mean()
        identity = (there(tb) - tb).abs().mean() + (back(ta) - ta).abs().mean()
        adams[0].zero_grad()
        (0.5 * loss_g + 10 * cycle + 5 * identity).backward()
        adams[0].step()
        assert output["loss_d"].item() == pytest.approx(loss_d.item(), abs=1e-8)
        assert output["cycle"].item() == pytest.approx(10 * cycle.item(), abs=1e-8)
        assert output["identity"].item() == pytest.approx(5 * identity.item(), abs=1e-8)
    _compare(players, g, d)
