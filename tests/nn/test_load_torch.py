"""`nn.load_torch`: a state dict of PyTorch in a net of the same layers, by name or by order."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import minigan as mg
from minigan import nn
from minigan.utils.notices import Notice

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


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
