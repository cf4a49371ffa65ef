"""Squared distances of all pairs of rows: reference, near duplicates, bits, threads."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import LAYOUTS, poison, spy_parallel, threads
from hypothesis import given
from hypothesis import strategies as st

from minigan.kernels.distance import squares
from minigan.kernels.distance.squares import ROWS, WIDTH, squared_distances
from minigan.kernels.runtime.cpu.simd import VECTOR_BYTES

# One row and column, whole tiles and panels, and one more and less of each; no row.
SIZES = [1, 2, ROWS - 1, ROWS, ROWS + 1, WIDTH - 1, WIDTH, WIDTH + 1, 2 * WIDTH, 2 * WIDTH + 3]


@pytest.fixture(autouse=True)
def _poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squares, "empty", poison)


def check(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    before = a.copy(), b.copy()
    exact = ((a[:, None].astype(np.longdouble) - b[None]) ** 2).sum(axis=2)
    y = squared_distances(a, b)
    assert y.shape == exact.shape
    # Each of d terms is positive, so the errors of d roundings, and of each difference, add up.
    bound = (a.shape[1] + 2) * np.finfo(float).eps * exact
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])
    assert (abs(y - exact) <= bound).all()
    return y


@given(st.sampled_from(SIZES), st.sampled_from(SIZES), st.integers(1, 40), st.integers(0, 2**31))
def test_the_reference(n: int, m: int, d: int, seed: int) -> None:
    a, b = (np.random.default_rng(seed + k).standard_normal((s, d)) for k, s in ((0, n), (1, m)))
    check(a, b)


def test_any_layout(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, WIDTH + 2, 5))
    y = check(a, b)
    for layout in LAYOUTS.values():
        assert check(layout(a), layout(b)).tobytes() == y.tobytes()


def test_near_duplicates_keep_their_digits(rng: np.random.Generator) -> None:
    """|a|^2 - 2 a b + |b|^2 has an error of 1e-13 here, a hundred times the distances."""
    a = rng.standard_normal((20, 30)) + 100
    b = a + 1e-9 * rng.standard_normal((20, 30))
    y = check(a, b)
    assert 1e-17 < y.diagonal().min() <= y.diagonal().max() < 1e-15
    assert not squared_distances(a, a).diagonal().any()


def test_bits_depend_on_the_two_rows_alone(rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 2 * WIDTH + 5, 17))
    y = squared_distances(a, b)
    assert squared_distances(b, a).T.tobytes() == y.T.copy().T.tobytes()
    for rows, columns in ((slice(3, 4), slice(WIDTH - 1, WIDTH + 9)), (slice(5, 40), slice(7, 8))):
        part = squared_distances(a[rows], b[columns])
        assert part.tobytes() == y[rows, columns].tobytes()


def test_several_threads_make_the_same_bits(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = rng.standard_normal((100, 50)), rng.standard_normal((300, 50))
    one = squared_distances(a, b)
    calls = spy_parallel(monkeypatch)
    with threads(2):
        two = squared_distances(a, b)
    assert calls == ["distance_panels"]
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_rows(n: int, m: int) -> None:
    assert squared_distances(np.zeros((n, 2)), np.zeros((m, 2))).shape == (n, m)


# Print the bytes of a vector, and a digest of distances.
ELSEWHERE = """
import hashlib
import numpy as np
from minigan.kernels.distance.squares import squared_distances
from minigan.kernels.runtime.cpu.simd import VECTOR_BYTES

a, b = np.random.default_rng(0).standard_normal((2, 53, 11))
print(VECTOR_BYTES, hashlib.sha256(squared_distances(a, b).tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 feature names")
@pytest.mark.parametrize(
    ("name", "features", "width"),
    [("haswell", "+sse4.2,+avx,+avx2,+fma", 32), ("x86-64", "+sse4.2,+avx,+fma", 16)],
)
def test_narrower_vectors_give_the_same_bits(
    name: str, features: str, width: int, tmp_path: Path
) -> None:
    if width > VECTOR_BYTES:
        pytest.skip("this machine has no such vectors")
    a, b = np.random.default_rng(0).standard_normal((2, 53, 11))
    digest = hashlib.sha256(squared_distances(a, b).tobytes()).hexdigest()
    here = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "MINIGAN_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        env={**os.environ, **here},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(width), digest]
