"""Write a generator's weights for PyTorch, with the code that loads them, and for numpy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..engine.latents import LATENTS
from ..utils import strict_json
from .files import PathLike, check_target, check_torch_targets, write_files
from .source import Source, describe, metadata
from .torch_text import TorchText, torch_text

if TYPE_CHECKING:
    from ..training.sampler import Sampler
    from ..training.saved_run import SavedRun


def torch(
    source: SavedRun | Sampler | nn.Module,
    path: PathLike,
    *,
    averaged: bool = True,
    latent_size: int | None = None,
) -> tuple[Path, Path]:
    """Write a generator's weights as PyTorch has them, and beside them the code that loads them.

        mg.export.torch(mg.load_run("runs/001-glyphs-mlp"), "G.safetensors")     # and G.py

    `safetensors.torch.load_file` reads the weights. Spectral norm is in them, and their names are
    those of the modules in G.py.

    Args:
        source: a run, or a generator of your own.
        path: a new file that ends in .safetensors; its .py must not exist either.
        averaged: whether to take the average of a run's generator, where it has one.
        latent_size: the length of the latents of your own generator.

    Returns:
        The paths of both files.

    Raises:
        ExportError: a module has no form in PyTorch here.
        ValueError: a file exists, or its name does not fit.
    """
    targets = check_torch_targets(path)
    contents = torch_bytes(describe(source, averaged, latent_size), targets[0].name)
    write_files(dict(zip(targets, contents, strict=True)))
    return targets


def npz(
    source: SavedRun | Sampler | nn.Module,
    path: PathLike,
    *,
    averaged: bool = True,
    latent_size: int | None = None,
) -> Path:
    """Write a generator's parameters and buffers as arrays, by minigan's names.

        mg.export.npz(mg.load_run("runs/001-glyphs-mlp"), "G.npz")
        net.load_state_dict(dict(np.load("G.npz")))

    The arguments are those of `torch`; the file ends in .npz. Returns its path.

    Raises:
        ValueError: the file exists, or its name does not fit.
    """
    target = check_target(path, ".npz")
    write_files({target: npz_bytes(describe(source, averaged, latent_size))})
    return target


def torch_bytes(source: Source, weights: str) -> tuple[bytes, bytes]:
    """Return the content of a file of weights, of the name `weights`, and of the code."""
    import safetensors.numpy

    text = torch_text(source.net)
    info = strict_json.dumps(metadata(source), sort_keys=True)
    data: bytes = safetensors.numpy.save(text.tensors, metadata={"minigan": info})
    return data, torch_code(source, text, weights).encode()


def npz_bytes(source: Source) -> bytes:
    """Return the content of an .npz of a generator's parameters and buffers."""
    file = io.BytesIO()
    arrays: dict[str, Any] = source.net.state_dict()
    np.savez(file, **arrays)
    return file.getvalue()


def torch_code(source: Source, text: TorchText, weights: str) -> str:
    """Return the Python code that builds the generator in PyTorch and draws samples."""
    known: dict[str, Any] = {"RUN": source.run or None, "STEP": source.step}
    if source.classes and source.class_names is not None:
        known["CLASSES"] = list(source.class_names)
    constants = [f"{name} = {value!r}" for name, value in known.items() if value is not None]
    latents = LATENTS[source.latent].torch.format(n="n", size=source.latent_size)
    scale = "" if source.scale == 1 else f" * {float(np.float32(source.scale))!r}"
    parameters, call = ("n", "G(latents)")
    what = f"n samples, (n, {', '.join(map(str, source.shape))}), in {source.value_range}"
    if source.classes:
        parameters, call = ("labels", "G(latents, labels)")
        what += f". Labels: int64, (n,), 0 to {source.classes - 1}"
        latents = LATENTS[source.latent].torch.format(n="len(labels)", size=source.latent_size)
    blocks = [
        '"""A generator that minigan trained, for PyTorch."""',
        "from pathlib import Path\n\nimport torch\nfrom safetensors.torch import load_file\n"
        "from torch import nn",
        "\n".join(constants),
        *(f"\n{definition}\n" for definition in text.classes.values()),
        f"G = {text.expression}\n"
        f"G.load_state_dict(load_file(Path(__file__).with_name({weights!r})))\nG.eval()",
        f'\ndef sample({parameters}):\n    """Return {what}."""\n    latents = {latents}\n'
        f"    with torch.no_grad():\n        return {call}{scale}",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"
