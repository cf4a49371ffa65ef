"""The page minigan/FROM_PYTORCH.md: its lines run, and both columns compute the same numbers."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigan as mg
from minigan import nn

PAGE = Path(mg.__file__).with_name("FROM_PYTORCH.md")
RANDOM = ("randn", "nn.Sequential", "DataLoader", "next(")  # rows whose numbers differ


def rows() -> list[tuple[str, str]]:
    """Return (PyTorch, minigan) of each row of the table."""
    found = []
    for line in PAGE.read_text("utf-8").splitlines():
        match = re.fullmatch(r"\| `(.*)` \| `(.*)` \|", line)
        if match:
            found.append((match[1], match[2]))
    return found


def names(code: str) -> set[str]:
    """Return the variables that the code assigns."""
    return {
        node.id
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def test_the_lines_of_minigan_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    for _, code in rows():
        exec(code, space)
    assert len(rows()) >= 30
    assert space["batch"].shape == (16, 3)
    assert [p.requires_grad for _, p in space["net"].tensors()] == [False, False, True, True]


def test_each_statement_is_about_what_exists() -> None:
    """The names in the text below the table are those of the library."""
    text = PAGE.read_text("utf-8").partition("What is different")[2]
    for name in re.findall(r"(?:mg|nn)\.[a-zA-Z_.]+", text):
        if name not in ("nn.Parameter",):
            assert eval(name, {"mg": mg, "nn": nn}) is not None
    x = mg.tensor([1.0, 2.0])
    assert not hasattr(x, "backward")
    with pytest.raises(TypeError, match="assign"):
        x[0] = 1.0
    with pytest.raises(TypeError, match="float64"):
        x + mg.tensor(np.ones(2))


def test_both_columns_compute_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    theirs: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    compared = 0
    for left, right in rows():
        exec(left, theirs)
        exec(right, ours)
        for name in names(left) & names(right) - {"q"}:
            a, b = theirs[name], ours[name]
            if any(word in left for word in RANDOM):
                if isinstance(b, nn.Module):
                    b.load_state_dict(a.state_dict())
                else:
                    ours[name] = mg.tensor(a.numpy())
            elif isinstance(b, mg.Tensor | np.ndarray | float):
                compared += 1
                actual = b.numpy() if isinstance(b, mg.Tensor) else b
                expected = a.detach().numpy() if hasattr(a, "detach") else a
                np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=1e-6, err_msg=left)
        if "net" in ours:
            for key, x in theirs["net"].state_dict().items():
                np.testing.assert_allclose(
                    ours["net"].state_dict()[key], x.numpy(), rtol=2e-5, atol=1e-6, err_msg=left
                )
    assert compared >= 14
