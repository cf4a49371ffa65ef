"""Every model and condition makes the same samples in onnxruntime, for any batch size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from export_helpers import (
    MODEL_NAMES,
    expected,
    latents,
    make_sampler,
    randomize,
    run_onnx,
    sample_shape,
)

import minigan as mg
from minigan import nn
from minigan.engine.latents import LATENTS
from minigan.export import operations, source
from minigan.export.onnx_file import build_model, compare, onnx_bytes
from minigan.gan.conditional import CONDITIONS

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing to compare with")

CONDITIONAL = [
    *(("toy", condition) for condition in CONDITIONS if condition != "none"),
    *(("dcgan", "concat"), ("mlp", "acgan"), ("resnet", "projection")),
]


@pytest.mark.parametrize(
    ("model", "condition"), [*((model, "none") for model in MODEL_NAMES), *CONDITIONAL]
)
def test_same_samples_for_any_batch(model: str, condition: str, tmp_path: Path) -> None:
    sampler = make_sampler(model, condition)
    export = mg.export.onnx(sampler, tmp_path / "g.onnx")
    assert export.difference is not None
    assert export.difference <= 1e-5
    for n in (1, 3, 100):
        z = latents(sampler, n)
        y = np.arange(n) % 3 if condition != "none" else None
        want = expected(sampler, z, y)
        got = run_onnx(export.path, z, y)
        assert got.shape == want.shape == (n, *sample_shape(model))
        assert got.dtype == np.float32
        assert np.abs(got - want).max() <= 1e-5
    assert np.ptp(want) > 0.1
    if y is not None:
        assert np.abs(run_onnx(export.path, z, (y + 1) % 3) - want).max() > 1e-3


@pytest.mark.parametrize("latent", LATENTS)
def test_every_distribution_of_latents(latent: str, tmp_path: Path) -> None:
    export = mg.export.onnx(make_sampler("toy", latent=latent), tmp_path / "g.onnx")
    assert export.difference is not None
    properties = {x.key: x.value for x in onnx.load(export.path).metadata_props}
    assert properties["latent"] == latent


def test_average_or_generator_and_the_scale_of_standardized_points(tmp_path: Path) -> None:
    sampler = make_sampler("toy", ema=0.9, standardize=True)
    assert sampler.scale not in (0, 1)
    z = latents(sampler, 5)
    wants = [sampler.generate(mg.tensor(z), averaged=averaged) for averaged in (True, False)]
    assert np.abs(wants[0] - wants[1]).max() > 0.01
    for averaged, want in zip((True, False), wants, strict=True):
        path = tmp_path / f"{averaged}.onnx"
        mg.export.onnx(sampler, path, averaged=averaged)
        assert np.abs(run_onnx(path, z) - want).max() <= 1e-5


def test_the_file_says_what_its_inputs_are(tmp_path: Path) -> None:
    sampler = make_sampler("dcgan", "concat", latent="uniform", ema=0.5)
    path = mg.export.onnx(sampler, tmp_path / "g.onnx").path
    model = onnx.load(path)
    assert [x.name for x in model.graph.input] == ["latent", "labels"]
    dims = [
        [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim]
        for x in (*model.graph.input, *model.graph.output)
    ]
    assert dims == [["batch", 100], ["batch"], ["batch", 3, 16, 8]]
    assert (model.producer_name, model.producer_version) == ("minigan", mg.__version__)
    texts = {p.key: p.value for p in model.metadata_props}
    assert texts["latent"] == "uniform"
    assert texts["generator"] == "average"
    assert texts["value_range"] == "[-1, 1]"
    assert texts["minigan_version"] == mg.__version__
    assert json.loads(texts["class_names"]) == ["ant", "bee", "cat"]
    assert "2.weight" in {x.name for x in model.graph.initializer} | {
        x.name.removeprefix("net.") for x in model.graph.initializer
    }


@pytest.mark.parametrize(
    ("op", "kind", "attributes"),
    [("leaky_relu", "LeakyRelu", {"alpha": 0.21}), ("tanh", "Sigmoid", {}), ("dense", "", {})],
)
def test_a_wrong_node_is_noticed_and_nothing_is_written(
    op: str, kind: str, attributes: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(graph, call, x, *others):
        if op == "dense":  # a weight that should be transposed, in the square layer
            w = graph.constants[others[0]]
            others = (graph.constant(w.T if w.shape[0] == w.shape[1] else w), *others[1:])
            return graph.node("Gemm", [x, *others])
        return graph.node(kind, [x], **attributes)

    sampler = make_sampler("mlp-wide")
    monkeypatch.setitem(operations.OPERATIONS, op, wrong)
    with pytest.raises(mg.export.ExportError, match=r"samples differ from minigan's by .* 1e-05"):
        mg.export.onnx(sampler, tmp_path / "g.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("attribute", ["eps", "momentum"])
def test_another_eps_of_batch_norm_is_noticed(attribute: str) -> None:
    net = randomize(nn.Sequential(nn.Dense(4, 6), nn.BatchNorm1d(6), nn.Dense(6, 3)))
    described = source.describe(net, latent_size=4)
    data, _ = onnx_bytes(described)
    setattr(net[1], attribute, 1e-3)
    if attribute == "momentum":  # which plays no part in eval mode
        assert compare(described, data) <= 1e-5
    else:
        with pytest.raises(mg.export.ExportError, match="differ from minigan's"):
            compare(described, data)


def test_the_net_is_left_as_it_was() -> None:
    sampler = make_sampler("dcgan")
    net = sampler.players.generator
    before = {name: (x.array, x.device, x.version) for name, x in net.tensors()}
    modes = [module.training for module in net.modules()]
    build_model(source.describe(sampler))
    after = {name: (x.array, x.device, x.version) for name, x in net.tensors()}
    assert all(a is b for name in before for a, b in zip(before[name], after[name], strict=True))
    assert modes == [module.training for module in net.modules()]
