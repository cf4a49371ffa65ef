"""PyTorch loads what is exported, and minigan loads what PyTorch has: the same samples."""

from __future__ import annotations

import json
import re
import warnings
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


CASES = [*((model, "none") for model in MODEL_NAMES), ("dcgan", "concat"), ("toy", "acgan")]


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
    *(nn.Upsample((2, 1)), nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0)), nn.GroupNorm(2, 6), nn.SiLU()),
    *(nn.spectral_norm(nn.ConvTranspose2d(6, 8, 3, 2, 1, 1, bias=False)), nn.InstanceNorm2d(8)),
    *(nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.DepthToSpace(2), nn.AvgPool2d(3, 1, 1)),
    *(nn.MaxPool2d(2, 2, 1, ceil_mode=True), nn.Reshape(5, -1), nn.Sigmoid(), nn.Flatten()),
    *(nn.spectral_norm(nn.Dense(50, 6)), nn.GELU("tanh"), nn.Reshape(2, 3), nn.Tanh()),
)


def test_every_layer_has_the_same_numbers(tmp_path: Path) -> None:
    net = randomize(EVERY_LAYER)
    kinds = {type(x.module if isinstance(x, nn.SpectralNorm) else x) for x in net}
    assert torch_text.LAYERS.keys() - kinds == {nn.Embedding}  # in the conditional models
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
    line = r"module Residual has no form in PyTorch here; these have: Sequential, .* Upsample; mg"
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


def test_linear_becomes_dense_and_stays_linear() -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    z = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    want = theirs(torch.tensor(z)).detach().numpy()
    states = [
        theirs.state_dict(),
        dict(theirs.named_parameters()),  # which require gradients
        {k: x.numpy() for k, x in theirs.state_dict().items()},
    ]
    for kind in (nn.Dense, nn.Linear):
        for state in states:
            ours = nn.Sequential(kind(3, 3), kind(3, 2))
            nn.load_torch(ours, state)
            assert np.abs(ours(mg.tensor(z)).numpy() - want).max() <= 1e-6


def test_other_names_are_matched_by_order_and_said() -> None:
    theirs = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 4), "b": torch.nn.Linear(4, 2)})
    ours = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 2))
    line = "matched by order: a.weight -> 0.weight, a.bias -> 0.bias, b.weight -> 2.weight and 1 "
    with pytest.warns(Notice, match=line):
        nn.load_torch(ours, theirs.state_dict())
    assert np.array_equal(ours[2].weight.numpy(), theirs["b"].weight.detach().numpy().T)


class Swapped(nn.Module):
    """Two equal layers, declared in the other order than they run in, and a last one."""

    def __init__(self) -> None:
        self.fc2, self.fc1, self.out = nn.Dense(3, 3), nn.Dense(3, 3), nn.Linear(3, 1)


def swapped_state(prefix: str = "", **names: str) -> dict[str, np.ndarray]:
    """A state of Swapped in the order fc1, fc2, out, with other names for some layers."""
    rng = np.random.default_rng(0)
    shapes = {"fc1": (3, 3), "fc2": (3, 3), "out": (1, 3)}
    state = {}
    for name, shape in shapes.items():
        layer = f"{prefix}{names.get(name, name)}"
        state[f"{layer}.weight"] = rng.standard_normal(shape).astype("f")
        state[f"{layer}.bias"] = rng.standard_normal(shape[0]).astype("f")
    return state


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
@pytest.mark.parametrize("is_nested", [False, True])
def test_names_that_agree_but_for_a_prefix_win_over_the_order(prefix: str, is_nested: bool) -> None:
    ours, state = Swapped(), swapped_state(prefix)
    net = nn.Sequential(ours) if is_nested else ours
    with pytest.warns(Notice, match=f"by name, but for a prefix of all: {prefix}fc1.weight -> .*"):
        nn.load_torch(net, state)
    for name in ("fc1", "fc2"):
        assert np.array_equal(getattr(ours, name).weight.numpy(), state[f"{prefix}{name}.weight"].T)
    assert np.array_equal(ours.out.weight.numpy(), state[f"{prefix}out.weight"])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_where_some_names_agree_the_order_is_not_used(prefix: str) -> None:
    ours, state = Swapped(), swapped_state(prefix, out="fc3")
    before = ours.state_dict()
    line = f"missing out.weight, out.bias; unexpected {prefix}fc3.weight, {prefix}fc3.bias in the s"
    with pytest.raises(ValueError, match=line):
        nn.load_torch(ours, state)
    assert all(np.array_equal(x, before[k]) for k, x in ours.state_dict().items())


def test_numbers_of_layers_are_an_order_and_no_names() -> None:
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
    )
    ours = nn.Sequential(nn.Identity(), nn.Dense(3, 3), nn.Dense(3, 3), nn.Dense(3, 1))
    state = theirs.state_dict()
    for prefix in ("", "main."):
        with pytest.warns(Notice, match=rf"by order: {prefix}0.weight -> 1.weight"):
            nn.load_torch(ours, {f"{prefix}{k}": x for k, x in state.items()})
        for i in range(3):
            assert np.array_equal(ours[i + 1].weight.numpy(), state[f"{i}.weight"].numpy().T)
    nested = nn.Sequential(nn.Identity(), *(nn.spectral_norm(nn.Dense(3, 3)) for _ in range(2)))
    state = {f"{int(k[0]) - 1}{k[1:]}": x for k, x in nested.state_dict().items()}
    with pytest.warns(Notice, match=r"by order: .*0.module.weight -> 1.module.weight"):
        nn.load_torch(nested, state)


def test_a_state_in_the_order_of_its_text_is_no_order_of_layers() -> None:
    """A file of safetensors sorts names: layer 10 comes before layer 2."""
    ours = nn.Sequential(*(nn.Dense(2, 2, bias=False) for _ in range(3)))
    state = {f"a.{i}.weight": np.full((2, 2), i, "f") for i in (1, 10, 2)}
    with pytest.raises(ValueError, match="the order and shapes of all do not agree"):
        nn.load_torch(ours, state)


def test_a_shared_layer_has_one_value() -> None:
    layer = nn.Dense(3, 3)
    net, before = nn.Sequential(layer, layer), layer.state_dict()
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    line = "Sequential: 0.weight and 1.weight are one shared tensor here, but have different values"
    with pytest.raises(ValueError, match=line):
        nn.load_torch(net, theirs.state_dict())
    with pytest.raises(ValueError, match=line):
        net.load_state_dict({**net.state_dict(), "1.weight": np.ones((3, 3), "f")})
    assert all(np.array_equal(x, before[k]) for k, x in layer.state_dict().items())
    shared = torch.nn.Sequential(theirs[0], theirs[0])
    nn.load_torch(net, shared.state_dict())
    assert np.array_equal(layer.weight.numpy(), theirs[0].weight.detach().numpy().T)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("layer", ["dense", "linear", "conv", "transposed"])
def test_spectral_norm(layer: str, old: bool) -> None:
    T = torch.nn
    their_layer, our_layer, shape = {
        "dense": (T.Linear(3, 5), nn.Dense(3, 5), (2, 3)),
        "linear": (T.Linear(3, 5), nn.Linear(3, 5), (2, 3)),
        "conv": (T.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3), (2, 2, 4, 4)),
        "transposed": (T.ConvTranspose2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3), (2, 2, 4, 4)),
    }[layer]
    wrap = T.utils.spectral_norm if old else T.utils.parametrizations.spectral_norm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The older function is deprecated.
        theirs = T.Sequential(wrap(their_layer))
    for _ in range(5):
        theirs(torch.randn(shape))
    ours = nn.Sequential(nn.spectral_norm(our_layer)).eval()
    nn.load_torch(ours, theirs.eval().state_dict())
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    want = theirs(torch.tensor(x)).detach().numpy()
    assert np.abs(ours(mg.tensor(x)).numpy() - want).max() <= 1e-5


def test_half_precision_becomes_float32() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        state = torch.nn.Linear(3, 2).to(dtype).state_dict()
        ours = nn.Sequential(nn.Dense(3, 2))
        with pytest.warns(Notice, match="by name, but for a prefix of all: weight -> 0.w"):
            nn.load_torch(ours, state)
        assert np.array_equal(ours[0].weight.numpy(), state["weight"].float().numpy().T)


STATE = {"0.weight": np.zeros((2, 3), "f"), "0.bias": np.zeros(2, "f")}
WRONG = {
    "missing": ({"0.weight": STATE["0.weight"]}, "Sequential: missing 0.bias in the state to load"),
    "unexpected": ({**STATE, "1.bias": STATE["0.bias"]}, "Sequential: unexpected 1.bias in the"),
    "both": (
        {"0.weight": STATE["0.weight"], "0.shift": STATE["0.bias"]},
        r"missing 0.bias; unexpected 0.shift in the state to load, and as other names agree \(0.w",
    ),
    "order": (
        {"a.bias": STATE["0.bias"], "b.weight": STATE["0.weight"]},
        "missing 0.weight, 0.bias; unexpected a.bias, b.weight .* the order and shapes of all do",
    ),
    "not transposed": (
        {**STATE, "0.weight": np.zeros((3, 2), "f")},
        r"0.weight is \(3, 2\) in the state to load, where PyTorch has \(2, 3\) for this layer",
    ),
    "dtype": ({**STATE, "0.bias": np.zeros(2)}, r"0.bias is float64\(2,\) in the state"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named_and_nothing_changes(case: str) -> None:
    state, message = WRONG[case]
    ours = nn.Sequential(nn.Dense(3, 2))
    before = ours.state_dict()
    with pytest.raises(ValueError, match=message) as caught:
        nn.load_torch(ours, state)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(x, before[k]) for k, x in ours.state_dict().items())


def test_a_net_in_the_place_of_its_state() -> None:
    with pytest.raises(TypeError, match=r"is Linear, not a dict: write torch_net.state_dict\(\)"):
        nn.load_torch(nn.Dense(3, 2), torch.nn.Linear(3, 2))
