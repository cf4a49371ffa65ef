"""PyTorch loads what is exported, and minigan loads what PyTorch has: the same samples."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from export_helpers import MODEL_NAMES, expected, latents, make_sampler, randomize

import minigan as mg
from minigan import nn
from minigan.engine.latents import LATENTS
from minigan.export import torch_text
from minigan.utils.notices import Notice

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def run_code(path: Path) -> dict[str, Any]:
    """The names that the written code makes."""
    names: dict[str, Any] = {"__file__": str(path), "__name__": path.stem}
    exec(compile(path.read_text(), path, "exec"), names)
    return names


WITH_CODE = [model for model in MODEL_NAMES if model != "progressive"]
CASES = [*((model, "none") for model in WITH_CODE), ("dcgan", "concat"), ("toy", "acgan")]


def test_a_model_that_grows_has_no_code_and_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        mg.export.ExportError, match=r"GrowingGenerator has no form .* --onnx needs"
    ):
        mg.export.torch(make_sampler("progressive"), tmp_path / "g.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("model", "condition"), [*CASES, ("resnet", "projection")])
def test_the_written_code_makes_the_same_samples(
    model: str, condition: str, tmp_path: Path
) -> None:
    sampler = make_sampler(model, condition)
    weights, code = mg.export.torch(sampler, tmp_path / "g.safetensors")
    names = run_code(code)
    z = latents(sampler, 6)
    y = None if condition == "none" else np.arange(6) % 3
    inputs = [torch.tensor(x) for x in (z, y) if x is not None]
    with torch.no_grad():
        got = names["G"](*inputs).numpy()
    assert np.abs(got - expected(sampler, z, y)).max() <= 1e-5
    drawn = names["sample"](5 if y is None else inputs[1][:5])
    assert drawn.shape == (5, *got.shape[1:])
    assert names.get("CLASSES") == (None if y is None else ["ant", "bee", "cat"])
    with safetensors.safe_open(weights, "numpy") as file:
        assert json.loads(file.metadata()["minigan"])["latent_size"] == sampler.latent_size


@pytest.mark.parametrize("latent", LATENTS)
def test_latents_and_scale_are_those_of_the_run(latent: str, tmp_path: Path) -> None:
    sampler = make_sampler("toy", latent=latent, standardize=True)
    sampler.scale *= 100
    names = run_code(mg.export.torch(sampler, tmp_path / "g.safetensors")[1])
    assert isinstance(names["G"][-1], torch.nn.Linear)
    names["G"].load_state_dict({k: 0 * x for k, x in names["G"].state_dict().items()})
    with torch.no_grad():
        names["G"][-1].bias += 1.0
    assert np.allclose(names["sample"](2).numpy(), sampler.scale)
    drawn_from: list[Any] = []
    names["G"].register_forward_pre_hook(lambda _, inputs: drawn_from.append(inputs[0]))
    names["sample"](20_000)
    theirs = drawn_from[0].numpy()
    with mg.random.use_generator(mg.random.Generator(5)):
        ours = LATENTS[latent].draw(theirs.shape).numpy()
    assert theirs.dtype == ours.dtype
    # Normal, uniform and Laplace numbers differ by 20 % or more in one of the first two moments
    # of their magnitudes; the sampling error of both here is under 2 %.
    for power in (1, 2):
        moments = [(np.abs(x.astype(float)) ** power).mean(0) for x in (theirs, ours)]
        np.testing.assert_allclose(*moments, rtol=0.08)


EVERY_LAYER = nn.Sequential(
    *(nn.Dense(4, 24, bias=False), nn.BatchNorm1d(24, eps=1e-3), nn.LeakyReLU(0.3)),
    *(nn.Dropout(0.4), nn.LayerNorm(24), nn.GELU(), nn.spectral_norm(nn.Linear(24, 24))),
    *(nn.GaussianNoise(0.1), nn.Softplus(2.0), nn.Identity(), nn.Reshape(4, 2, 3)),
    *(nn.UpsampleConv2d(4, 4, (3, 1)), nn.spectral_norm(nn.ConvAvgPool2d(4, 4, 3, bias=False))),
    *(nn.Upsample((2, 1)), nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0)), nn.GroupNorm(2, 6), nn.SiLU()),
    *(nn.spectral_norm(nn.ConvTranspose2d(6, 8, 3, 2, 1, 1, bias=False)), nn.InstanceNorm2d(8)),
    *(nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.DepthToSpace(2), nn.AvgPool2d(3, 1, 1)),
    *(nn.MaxPool2d(2, 2, 1, ceil_mode=True), nn.Reshape(5, -1), nn.Sigmoid(), nn.Flatten()),
    *(nn.spectral_norm(nn.Dense(50, 6)), nn.GELU("tanh"), nn.Reshape(2, 3), nn.Tanh()),
)


def test_every_layer_has_the_same_numbers(tmp_path: Path) -> None:
    net = randomize(EVERY_LAYER)
    kinds = {type(x.module if isinstance(x, nn.SpectralNorm) else x) for x in net}
    known = torch_text.LAYERS | torch_text.PAIRS
    assert known.keys() - kinds == {nn.Embedding}  # in the conditional models
    names = run_code(mg.export.torch(net, tmp_path / "g.safetensors", latent_size=4)[1])
    z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    with nn.evaluating(net), torch.no_grad():
        want, got = net(mg.tensor(z)).numpy(), names["G"](torch.tensor(z)).numpy()
    assert want.shape == got.shape == (5, 2, 3)
    assert np.abs(got - want).max() <= 1e-5


def test_a_weight_that_is_not_transposed_is_noticed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        torch_text, "_tensors", lambda module: {k: x.numpy() for k, x in module.tensors()}
    )
    net = nn.Sequential(nn.Dense(4, 4))
    names = run_code(mg.export.torch(net, tmp_path / "g.safetensors", latent_size=4)[1])
    z = np.eye(4, dtype=np.float32)
    with torch.no_grad():
        assert np.abs(names["G"](torch.tensor(z)).numpy() - net(mg.tensor(z)).numpy()).max() > 0.01


class Residual(nn.Module):
    def __init__(self) -> None:
        self.inner = nn.Dense(4, 4)

    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return x + self.inner(x)


class Double(nn.Module):
    def forward(self, x: mg.Tensor) -> mg.Tensor:
        return x * 2.0


class Named(nn.Sequential):
    """A net of the user's own that is a Sequential."""

    def __init__(self) -> None:
        super().__init__(nn.Dense(4, 4), Residual(), Double())


def test_a_module_of_ones_own_is_refused_or_gets_a_form(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "g.safetensors"
    line = r"module Residual has no form in PyTorch here; these have: .* UpsampleConv2d; mg"
    with pytest.raises(mg.export.ExportError, match=line):
        mg.export.torch(Named(), path, latent_size=4)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setitem(mg.export.FORWARDS, Residual, ("x", "x + self.inner(x)"))
    monkeypatch.setitem(mg.export.FORWARDS, Double, ("x", "x * 2"))
    net = Named()
    net[1].scale = mg.tensor([1.0])
    with pytest.raises(mg.export.ExportError, match=r"has parameters of its own \(scale\)"):
        mg.export.torch(net, path, latent_size=4)
    del net[1].scale
    names = run_code(mg.export.torch(net, path, latent_size=4)[1])
    z = np.eye(4, dtype=np.float32)
    with torch.no_grad():
        got = names["G"](torch.tensor(z)).numpy()
    assert np.abs(got - net(mg.tensor(z)).numpy()).max() <= 1e-6


class Doubled(nn.Dense):
    """A layer of the user's own that computes something else."""

    def apply_weight(self, x: mg.Tensor, weight: mg.Tensor) -> mg.Tensor:
        return super().apply_weight(x, weight * 2.0)


class Scaled(nn.ReLU):
    forward = functools.partialmethod(lambda self, x, k: x * k, 2.0)


@pytest.mark.parametrize("layer", [Doubled(4, 4), Scaled()])
def test_a_layer_that_computes_something_else_is_not_taken_for_its_base(
    layer: nn.Module, tmp_path: Path
) -> None:
    name = type(layer).__name__
    with pytest.raises(mg.export.ExportError, match=f"module {name} has no form in PyTorch"):
        mg.export.torch(
            nn.Sequential(nn.Dense(4, 4), layer), tmp_path / "g.safetensors", latent_size=4
        )


class Frozen(nn.Sequential):
    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)

    def __repr__(self) -> str:
        return "Frozen()"


class Down(nn.Conv2d):
    """A layer of the user's own that computes what its base does."""


def test_other_methods_and_names_do_not_matter(tmp_path: Path) -> None:
    net = Frozen(nn.Dense(4, 8), nn.Reshape(2, 2, 2), Down(2, 3, 3, 1, 1), nn.BatchNorm2d(3))
    text = mg.export.torch(net, tmp_path / "g.safetensors", latent_size=4)[1]
    names = run_code(text)
    z = np.eye(4, dtype=np.float32)
    with torch.no_grad():
        got = names["G"](torch.tensor(z)).numpy()
    with nn.evaluating(net):
        assert np.abs(got - net(mg.tensor(z)).numpy()).max() <= 1e-5


def test_names_of_runs_and_classes_cannot_become_code(tmp_path: Path) -> None:
    sampler = make_sampler("toy", "concat")
    sampler.class_names = ('"""\nraise SystemExit', "'+exit()+'", "\\")
    names = run_code(mg.export.torch(sampler, tmp_path / "g'.safetensors")[1])
    assert names["CLASSES"] == list(sampler.class_names)


# -------------------------------------------------------------------------- the ten lines of pages
def pages() -> list[tuple[str, str]]:
    """The programs of READMEs that load an export, with the path of the page."""
    texts = {path: (ROOT / path).read_text() for path in ("README.md", "minigan/export/README.md")}
    return [
        (path, block)
        for path, text in texts.items()
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if "load_file(" in block
    ]


@pytest.mark.parametrize(("path", "program"), pages(), ids=lambda text: text[:25])
def test_ten_lines_of_pytorch_load_the_export_of_the_default_run(
    path: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len([line for line in program.splitlines() if line.strip()]) <= 10
    sampler = make_sampler("mlp", shape=(1, 28, 28))
    mg.export.torch(sampler, tmp_path / "G.safetensors")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["images"].shape == (64, 1, 28, 28)
    z = latents(sampler, 20)
    with torch.no_grad():
        got = names["G"](torch.tensor(z)).numpy()
    assert np.abs(got - expected(sampler, z, None)).max() <= 1e-5


def test_the_page_of_the_package_has_them() -> None:
    assert "minigan/export/README.md" in [path for path, _ in pages()]


# ------------------------------------------------------------------------------ from PyTorch's side
def torch_dcgan(**options: Any) -> Any:
    """A generator as PyTorch's DCGAN example has it, with statistics of a training."""
    T = torch.nn
    net = T.Sequential(
        *(T.ConvTranspose2d(5, 8, 4, 1, 0, bias=False), T.BatchNorm2d(8), T.ReLU()),
        *(T.ConvTranspose2d(8, 4, 4, 2, 1, bias=False), T.BatchNorm2d(4, eps=1e-3), T.ReLU()),
        *(T.ConvTranspose2d(4, 3, 4, 2, 1), T.Tanh()),
    )
    for _ in range(3):
        net(torch.randn(6, 5, 1, 1))
    return net.eval()


def dcgan() -> nn.Sequential:
    return nn.Sequential(
        *(nn.ConvTranspose2d(5, 8, 4, 1, 0, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Tanh()),
    ).eval()


def test_from_pytorch_to_minigan_and_back(tmp_path: Path) -> None:
    theirs, ours = torch_dcgan(), dcgan()
    line = "1.num_batches_tracked, 4.num_batches_tracked in the state to load: left out"
    with pytest.warns(Notice, match=line):
        nn.load_torch(ours, theirs.state_dict())
    z = np.random.default_rng(0).standard_normal((7, 5, 1, 1)).astype(np.float32)
    with torch.no_grad():
        want = theirs(torch.tensor(z)).numpy()
    assert np.abs(ours(mg.tensor(z)).numpy() - want).max() <= 1e-5
    wrapped = nn.Sequential(nn.Reshape(5, 1, 1), *ours)
    names = run_code(mg.export.torch(wrapped, tmp_path / "g.safetensors", latent_size=5)[1])
    with torch.no_grad():
        assert np.abs(names["G"](torch.tensor(z[..., 0, 0])).numpy() - want).max() <= 1e-6
