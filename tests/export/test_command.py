"""`minigan export`: what it writes and says, and what it refuses without writing anything."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_helpers import latents, make_sampler, run_onnx
from run_helpers import cli, files, refused, train

import minigan as mg
from minigan.export import onnx_file
from minigan.training import load_sampler as load_sampler_module
from minigan.training.load_sampler import load_sampler

needs_onnx = pytest.mark.skipif(
    not (find_spec("onnx") and find_spec("onnxruntime")),
    reason="onnx and onnxruntime are not installed: pip install -e '.[onnx]'",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional run on standardized points with an average, and snapshots at steps 2 and 4."""
    folder = tmp_path_factory.mktemp("export")
    words = ["--data", "ring", "--samples", 200, "--batch", 8, "--device", "reference"]
    words += ["--steps", 4, "--sample-every", 2]
    train(folder / "run", *words, "--condition", "concat", "--ema", 0.5, "--standardize")
    return folder / "run"


def ring_latents(sampler: Any) -> tuple[np.ndarray, np.ndarray]:
    return latents(sampler, 12), np.arange(12) % 8


@needs_onnx
def test_three_formats_at_once_with_a_line_each(run: Path, tmp_path: Path) -> None:
    before = files(run)
    words = ["--onnx", tmp_path / "g.onnx", "--torch", tmp_path / "g.safetensors"]
    result = cli("export", run, *words, "--npz", tmp_path / "g.npz")
    assert (result.status, result.errors) == (0, [])
    onnx, weights, code, npz = result.out.splitlines()
    assert onnx.startswith(f"{tmp_path / 'g.onnx'}: the generator's average at step 4, 0.1 MB; lar")
    assert onnx.endswith("over 100 latents in onnxruntime")
    assert weights.endswith(
        "g.safetensors: weights of the generator's average at step 4, for PyTorch"
    )
    assert code.endswith("g.py: the code that loads them")
    assert npz.endswith("g.npz: weights of the generator's average at step 4, by minigan's names")
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".npz", ".onnx", ".py", ".safetensors"]
    assert files(run) == before

    sampler = load_sampler(run, device="cpu")
    z, y = ring_latents(sampler)
    want = sampler.generate(mg.tensor(z), y)
    assert np.abs(run_onnx(tmp_path / "g.onnx", z, y) - want).max() <= 1e-5
    net = load_sampler(run, device="cpu").players.generator
    net.load_state_dict(dict(np.load(tmp_path / "g.npz")))
    with mg.nn.evaluating(net):
        got = net(mg.tensor(z), mg.tensor(y)).numpy() * np.float32(sampler.scale)
    assert np.array_equal(got, want)


@needs_onnx
def test_a_snapshot_and_the_generator_itself(run: Path, tmp_path: Path) -> None:
    for words, averaged in (([], True), (["--no-average"], False)):
        path = tmp_path / f"{averaged}.onnx"
        result = cli("export", run, "--step", 2, *words, "--onnx", path)
        assert (result.status, result.errors) == (0, [])
        assert ("average" in result.out) == averaged
        assert "at step 2, " in result.out
        sampler = load_sampler(run, 2, device="cpu")
        z, y = ring_latents(sampler)
        want = sampler.generate(mg.tensor(z), y, averaged=averaged)
        assert np.abs(run_onnx(path, z, y) - want).max() <= 1e-5


def test_the_best_step(run: Path, tmp_path: Path) -> None:
    sampler = load_sampler(run, "best", device="cpu")
    result = cli("export", run, "--step", "best", "--npz", tmp_path / "g.npz")
    assert (result.status, result.errors) == (0, [])
    assert f"average at step {sampler.step}, " in result.out
    want = sampler.players.sampler.state_dict()
    with np.load(tmp_path / "g.npz") as got:
        assert got.keys() == want.keys()
        assert all(np.array_equal(got[name], x) for name, x in want.items())


@needs_onnx
def test_from_python(run: Path, tmp_path: Path) -> None:
    export = mg.export.onnx(mg.load_run(run), tmp_path / "g.onnx")
    assert export.size == (tmp_path / "g.onnx").stat().st_size
    assert "run" in (tmp_path / "g.onnx").read_bytes().decode("latin1")
    assert mg.export.npz(mg.load_run(run), tmp_path / "g.npz") == tmp_path / "g.npz"
    with pytest.raises(TypeError, match=r"str is neither a run \(mg.load_run\) nor a generator"):
        mg.export.npz("runs/001", tmp_path / "h.npz")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a net needs latent_size"):
        mg.export.npz(mg.nn.Dense(2, 2), tmp_path / "h.npz")


# --------------------------------------------------------------------------------- what is refused
def test_nothing_is_overwritten(run: Path, tmp_path: Path) -> None:
    for option, name in (("--onnx", "g.onnx"), ("--torch", "g.safetensors"), ("--npz", "g.npz")):
        path = tmp_path / name
        path.write_text("mine")
        line = refused("export", run, option, path)
        assert line.endswith(f"{option} {path}: exists already; another name is needed")
        assert path.read_text() == "mine"
    (tmp_path / "net.py").write_text("mine")
    line = refused("export", run, "--torch", tmp_path / "net.safetensors")
    assert line.endswith(f"beside it, {tmp_path / 'net.py'} exists already; give another name")
    assert not (tmp_path / "net.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give at least one of --onnx, --torch and --npz, each with a new file"),
        (["--onnx", "g.pb"], "--onnx g.pb: a name that ends in .onnx is needed"),
        (["--torch", "g.pt"], "--torch g.pt: a name that ends in .safetensors is needed"),
        (["--npz", "none/g.npz"], "--npz none/g.npz: there is no folder none"),
        (["--torch", "torch.safetensors"], "would take the place of the package torch; another"),
        (["--npz", "{run}/samples/g.npz"], "is a file of a training; another name is needed"),
        (["--npz", "{run}/snapshots/g.npz"], "is a file of a training; another name is needed"),
        (["--npz", "g.npz", "--step", 3], "has no snapshot of step 3; the nearest are 2 and 4"),
    ],
)
def test_refused_in_one_line(
    run: Path, words: list[Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files(run)
    assert message in refused("export", run, *(str(word).format(run=run) for word in words))
    assert files(run) == before
    assert list(tmp_path.iterdir()) == []


def test_all_files_or_none(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights for PyTorch come first; a failure of what follows leaves nothing."""
    real = mg.export.files._write

    def write(path: Path, data: bytes) -> None:
        if path.suffix == ".npz":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(mg.export.files, "_write", write)
    words = ["--torch", tmp_path / "g.safetensors", "--npz", tmp_path / "g.npz"]
    assert f"cannot write {tmp_path / 'g.npz'}: No space left" in refused("export", run, *words)
    assert list(tmp_path.iterdir()) == []


def test_runs_that_cannot_be_exported(run: Path, tmp_path: Path) -> None:
    out = ["--npz", tmp_path / "g.npz"]
    assert "is not a run: it has no config.json" in refused("export", tmp_path / "none", *out)
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rank": 7}))
    assert "config.json cannot be read: unknown option 'rank'" in refused("export", copy, *out)
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "checkpoint.safetensors").unlink()
    assert "there is no checkpoint" in refused("export", copy, *out)
    assert not (tmp_path / "g.npz").exists()


def test_an_interrupted_run_says_its_step(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "steps": 9000}))
    result = cli("export", copy, "--npz", tmp_path / "g.npz")
    assert result.errors == [f"minigan export: note: {copy} was interrupted at step 4 of 9,000"]
    assert result.status == 0


def test_a_run_without_an_average_says_so(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_sampler_module, "load_sampler", lambda *_, **__: make_sampler("toy"))
    result = cli("export", run, "--no-average", "--npz", tmp_path / "g.npz")
    assert len(result.errors) == 1
    assert "has no average of its generator (option ema): --no-average changes" in result.errors[0]


def test_missing_packages_are_said(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    line = refused("export", run, "--onnx", tmp_path / "g.onnx")
    assert "ONNX files need the package onnx: pip install -e '.[onnx]'" in line
    if find_spec("onnx"):
        monkeypatch.setattr(onnx_file, "find_spec", lambda name: name == "onnx" or None)
        result = cli("export", run, "--onnx", tmp_path / "g.onnx")
        assert "; not compared with minigan, as onnxruntime is not installed" in result.out
