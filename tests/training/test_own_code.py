"""Code of the user's own from files: it is found again, and run only where the user names it."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from run_helpers import assert_same_run, cli, finish, metrics, refused, start, train

import minigan as mg
from minigan.kernels.runtime.files import cache_root
from minigan.training.own_code import load_named_code
from minigan.training.run_folder import RunError

# It leaves a mark when it is run. The nets, the loss and the data are minigan's own.
SOURCE = '''
import os
import numpy as np
from minigan import nn, ops
import minigan as mg

with open(os.environ["MARK"], "a") as file:
    file.write("x")

def build(sample_shape, latent_size):
    """minigan's toy nets."""
    (width,) = sample_shape

    def net(inputs, outputs):
        layers = [nn.Dense(inputs, 128), nn.LeakyReLU(0.2), nn.Dense(128, 128), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, nn.Dense(128, outputs))

    return net(latent_size, width), net(width, 1)

build.latent_size = 2

class Mine:
    def discriminator(self, real, fake):
        return ops.softplus(-real).mean() + ops.softplus(fake).mean()

    def generator(self, fake):
        return ops.softplus(-fake).mean()

def ring(samples, seed, split):
    data = mg.data.load("ring", samples=samples, seed=seed, split=split)
    return data.values, data.labels
'''
WORDS = [
    "--samples",
    64,
    "--batch",
    8,
    "--log-every",
    2,
    "--sample-every",
    2,
    "--device",
    "reference",
]
OWN = ["--model", "net.py:build", "--loss", "net.py:Mine", "--data", "net.py:ring"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with net.py, and a cache that remembers no code, but has the usual kernels."""
    (tmp_path / "net.py").write_text(SOURCE)
    (tmp_path / "cache").mkdir()
    (cache_root() / "kernels").mkdir(parents=True, exist_ok=True)
    os.symlink(cache_root() / "kernels", tmp_path / "cache" / "kernels")
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    _unload(tmp_path)
    return tmp_path


def _run(place, *words):
    """A real process with this cache."""
    places = {"MARK": str(place / "mark"), "MINIGAN_CACHE": str(place / "cache")}
    return finish(start(*map(str, words), cwd=place, **places))


def _forget(place):
    """As on another machine: no code was ever named, and none has run."""
    shutil.rmtree(place / "cache" / "named_code")
    _unload(place)


def _unload(place):
    """As in another process: no code is loaded, and none has left a mark."""
    for name in [name for name in sys.modules if name.startswith("minigan_own_code")]:
        del sys.modules[name]
    (place / "mark").unlink(missing_ok=True)


def _ran(place):
    return (place / "mark").exists()


# ------------------------------------------------------------------------------------ train with it
def test_own_code_trains_to_the_bits_of_the_same_code_of_minigan(place):
    train("own", *WORDS, *OWN, "--steps", 4)
    train("built-in", *WORDS, "--model", "toy", "--data", "ring", "--steps", 4)
    a, b = (mg.load(place / name / "checkpoint.safetensors")[0] for name in ("own", "built-in"))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    losses = [
        [{k: x for k, x in row.items() if "_n" not in k} for row in metrics(place / name)]
        for name in ("own", "built-in")  # of which the second has the modes that are measured
    ]
    assert losses[0] == losses[1]
    config = json.loads((place / "own" / "config.json").read_text())
    assert config["model"] == f"{place}/net.py:build"
    for name in ("model", "loss", "data"):
        assert (place / "own" / "code" / f"{name}.py").read_text() == SOURCE


def test_other_processes_find_the_code_again_even_if_the_file_has_changed(place):
    assert _run(place, "train", *WORDS, *OWN, "--steps", 4, "--out", "run").status == 0
    train("whole", *WORDS, *OWN, "--steps", 6)
    (place / "net.py").write_text("raise SystemExit('not this one')")
    for words in (
        ["sample", "run"],
        ["evaluate", "run"],
        ["train", "--resume", "run", "--steps", "6"],
    ):
        result = _run(place, *words)
        assert (result.status, result.errors) == (0, []), words
    assert_same_run(place / "run", place / "whole")
    assert cli("info", "run").status == 0


@pytest.mark.slow
def test_every_seed_runs_the_code(place):
    result = _run(place, "train", *WORDS, *OWN, "--steps", 2, "--seeds", "0,1", "--out", "runs")
    assert result.status == 0, result
    for seed in (0, 1):
        assert (place / "runs" / f"seed_{seed}" / "code" / "model.py").read_text() == SOURCE


def test_folders_are_named_by_the_code(place):
    assert cli("train", *WORDS, *OWN, "--steps", 1).status == 0
    assert [path.name for path in (place / "runs").iterdir()] == ["001-ring-build"]


# ---------------------------------------------------------------------------------- what is trusted
@pytest.mark.parametrize("words", [["sample"], ["evaluate"], ["train", "--resume"]])
def test_the_code_of_a_strange_run_is_not_run(place, words):
    train("run", *WORDS, *OWN, "--steps", 2)
    _forget(place)
    line = refused(*words, "run")
    assert "run has a model of its own, run/code/model.py, and code is run only if you name" in line
    assert line.endswith("--model run/code/model.py:build")
    with pytest.raises(RunError, match="run only if you name it"):
        mg.load_run("run")
    assert not _ran(place)


def test_a_strange_path_in_a_config_is_not_run(place):
    """Also without a copy, and with the path of a file that exists."""
    train("run", *WORDS, "--data", "ring", "--steps", 2)
    for name in ("model", "loss", "data"):
        path = place / "run" / "config.json"
        before = path.read_text()
        path.write_text(json.dumps(json.loads(before) | {name: f"{place}/net.py:build"}))
        for words in (["sample"], ["evaluate"], ["train", "--resume"]):
            if (name, words) in (("loss", ["sample"]), ("data", ["sample"])):
                assert cli(*words, "run").status == 2 * (
                    name == "loss"
                )  # differs from the checkpoint
            else:
                line = refused(*words, "run")
                assert f"run/code/{name}.py, the code of this run's {name}, is gone" in line
        path.write_text(before)
    assert not _ran(place)


def test_the_copy_that_is_named_is_run_and_remembered(place):
    train("run", *WORDS, *OWN, "--steps", 2)
    _forget(place)
    named = ["--model", "run/code/model.py:build"]
    assert cli("sample", "run", *named).status == 0
    assert _ran(place)
    assert cli("sample", "run").status == 0
    # The loss is other code in the same file, and only training needs it.
    assert "run has a loss of its own" in refused("evaluate", "run")
    assert cli("evaluate", "run", "--loss", "net.py:Mine", "--data", "net.py:ring").status == 0


def test_data_that_are_named_do_not_change_the_other_code(place):
    train("run", *WORDS, *OWN, "--steps", 2)
    os.rename("net.py", "data.py")
    (place / "net.py").write_text("raise ValueError('not this one')")
    result = cli("evaluate", "run", "--data", "data.py:ring")
    assert (result.status, result.errors) == (0, [])


def test_a_copy_that_was_changed_is_not_run(place):
    train("run", *WORDS, *OWN, "--steps", 2)
    _unload(place)
    with (place / "run" / "code" / "model.py").open("a") as file:
        file.write("print('evil')\n")
    assert "code is run only if you name it" in refused("sample", "run")
    assert "net.py has changed since run was trained" in refused(
        "sample", "run", "--model", "net.py:build")  # fmt: skip
    assert not _ran(place)


def test_a_file_that_differs_or_is_gone_is_refused_by_name(place):
    train("run", *WORDS, *OWN, "--steps", 2)
    (place / "net.py").write_text(SOURCE + "\n")
    line = refused("train", "--resume", "run", "--model", "net.py:build")
    assert f"{place}/net.py has changed since run was trained; run/code/model.py is what it" in line
    line = refused("sample", "run", "--model", "run/code/model.py:Mine")
    assert "run has the model build, not Mine" in line
    (place / "run" / "code" / "model.py").unlink()
    line = refused("sample", "run")
    assert "run/code/model.py, the code of this run's model, is gone; --model FILE.py:build" in line
    result = cli("sample", "run", "--model", "net.py:build")
    assert result.status == 0
    assert result.errors == [
        f"minigan sample: note: run/code/model.py is gone; whether {place}/net.py is the code of"
        " this run is not known"
    ]


def test_a_config_file_names_no_code(place):
    (place / "a.yaml").write_text(f"model: {place}/net.py:build\ndata: ring\nsteps: 1\n")
    words = ["train", *WORDS, "--config", "a.yaml", "--out", "run"]
    assert "net.py:build' is code, which is run only if you name it yourself" in refused(*words)
    assert not _ran(place)
    assert not (place / "run").exists()
    assert cli(*words, "--model", "net.py:build").status == 0


def test_a_trainer_loads_no_code(place):
    with pytest.raises(ValueError, match="is code that is not loaded"):
        mg.Trainer(mg.Config(data="ring", model=f"{place}/net.py:build"))
    with pytest.raises(ValueError, match="is code, which is run only where a command"):
        mg.data.load(f"{place}/net.py:other")
    assert not _ran(place)


def test_mg_train_names_the_code(place):
    config = mg.Config(data="net.py:ring", model="net.py:build", samples=64, steps=1, batch=8,
                       device="reference")  # fmt: skip
    saved = mg.train(config, out="run", progress=False)
    assert saved.config.model == f"{place}/net.py:build"
    assert mg.load_run("run").sample(2).shape == (2, 2)
    _forget(place)
    assert mg.load_run("run", model="run/code/model.py:build").sample(2).shape == (2, 2)


def test_a_name_of_minigan_needs_no_code(place):
    train("run", *WORDS, "--data", "ring", "--steps", 1)
    line = refused("sample", "run", "--model", "net.py:build")
    assert "--model net.py:build: run has minigan's own model, toy" in line
    assert "--model mlp: FILE.py:NAME is needed" in refused("sample", "run", "--model", "mlp")
    assert not _ran(place)


def test_without_a_cache_code_is_named_again(place):
    (place / "cache" / "named_code").write_text("not a folder")
    train("run", *WORDS, *OWN, "--steps", 1)
    assert "code is run only if you name it" in refused("sample", "run")
    assert cli("sample", "run", "--model", "net.py:build").status == 0


# ------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (None, "build", "there is no file "),
        ("x = 1", "build", "net.py defines no build"),
        ("def f(:", "f", "net.py cannot be run: SyntaxError: invalid syntax (line 1)"),
        ("x = 1\ny = z", "y", "cannot be run: NameError: name 'z' is not defined (net.py, line 2)"),
        ("build = 3", "build", "net.py: model 'build' is neither a function"),
        ("def build(shape): pass", "build", "is neither a function build(sample_shape, "),
        ("from minigan import nn\nclass G(nn.Module): pass", "G", "model 'G' is one net"),
        ("def build(s, n):\n    return 1 / 0", "build", ": division by zero (net.py, line 2)"),
        ("def build(s, n): return 1", "build", "build returns int, not (generator, discriminator)"),
        ("def build(s, n): return 1, 2", "build", "build returns a int, not an nn.Module"),
    ],
)  # fmt: skip
def test_an_error_in_a_file_is_one_line_with_its_line(place, source, name, message):
    os.unlink("net.py")
    if source is not None:
        (place / "net.py").write_text(source)
    words = ["train", *WORDS, "--data", "ring", "--model", f"net.py:{name}", "--out", "run"]
    assert message in refused(*words)


def test_paths_become_absolute(place):
    config = load_named_code(mg.Config(model="net.py:build", loss="./net.py:Mine"))
    assert (config.model, config.loss) == (f"{place}/net.py:build", f"{place}/net.py:Mine")
