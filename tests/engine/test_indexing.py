"""x[index] with arrays of integers and bools: numpy's values, gradients, errors, and captures."""

from typing import Any

import numpy as np
import pytest
from helpers import DEVICES
from hypothesis import given
from hypothesis import strategies as st

import minigan as mg
from minigan.engine.check import check_gradients

X = np.arange(2 * 3 * 4 * 5, dtype=np.float64).reshape(2, 3, 4, 5)
MASK = X[0, :, :, 0] % 3 == 0
INDICES: dict[str, Any] = {
    "list": [1, 0, 1],
    "negative": [-1, -2],
    "array": np.array([[0, 1], [1, 0]]),
    "small integers": np.array([1, 0], np.uint8),
    "range": range(2),
    "empty list": [],
    "no dimension": np.array(1),
    "second axis": (slice(None), [2, 0]),
    "last axis": (..., [4, -5, 0]),
    "two arrays": ([0, 1], [2, 1]),
    "three that broadcast": ([[0], [1]], [0, -1], 2),
    "adjacent in the middle": (slice(None), [0, 1], [3, 2]),
    "adjacent, with an integer": (slice(None), 1, [3, 2]),
    "separated by a slice": ([0, 1], slice(None), [3, 2]),
    "separated by ...": (0, ..., [3, 2]),
    "separated by ... of no axis": (slice(None), [1, 0], ..., [3, 2], [4, 4]),
    "separated by None": (slice(None), [1, 0], None, [3, 2]),
    "with slices and None": (slice(None, None, -1), None, [2, 1], slice(1, 3), 4),
    "mask of two axes": (1, MASK),
    "mask of all axes": X > 50,
    "list of bools": [True, False],
    "mask and array": (slice(None), MASK, [0]),
    "mask without True": X < 0,
}


def _on(device: str, index: Any) -> Any:
    """The index with tensors in the place of arrays."""
    if isinstance(index, tuple):
        return tuple(_on(device, part) for part in index)
    is_array = isinstance(index, (list, np.ndarray)) and np.asarray(index).size > 0
    return mg.tensor(np.asarray(index), device=device) if is_array else index


@DEVICES
@pytest.mark.parametrize("name", list(INDICES))
def test_values_and_gradients_are_those_of_numpys_index(name: str, device: str) -> None:
    index = INDICES[name]
    expected = X[index]
    x = mg.tensor(X, device=device, requires_grad=True)
    for i in (index, _on(device, index)):
        y = x[i]
        assert (y.shape, y.dtype) == (expected.shape, X.dtype)
        assert np.array_equal(y.numpy(), expected)
    weights = np.random.default_rng(0).standard_normal(expected.shape)
    (gx,) = mg.grad((y * mg.tensor(weights, device=device)).sum(), [x])
    wanted = np.zeros_like(X)
    np.add.at(wanted, index, weights)
    assert np.allclose(gx.numpy(), wanted, rtol=1e-14, atol=0)


@given(data=st.data())
def test_any_index_is_numpys(data: st.DataObject) -> None:
    """Slices, None, `...`, integers, arrays that broadcast, masks: the axes of the result, too."""
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)))
    parts: list[Any] = []
    axis = 0
    while axis < len(shape) and data.draw(st.booleans() if parts else st.just(True)):
        n = shape[axis]
        numbers = st.integers(-n, n - 1)
        kind = data.draw(st.sampled_from(["slice", "integer", "array", "column", "mask", "none"]))
        parts.append(
            {
                "slice": lambda n=n: slice(data.draw(st.integers(-n, n)), None),
                "integer": lambda: data.draw(numbers),  # noqa: B023
                "array": lambda: data.draw(st.lists(numbers, min_size=2, max_size=2)),  # noqa: B023
                "column": lambda: [[data.draw(numbers)], [data.draw(numbers)]],  # noqa: B023
                "mask": lambda n=n: np.arange(n) == data.draw(st.integers(0, n - 1)),
                "none": lambda: None,
            }[kind]()
        )
        axis += kind != "none"
    if data.draw(st.booleans()):
        parts.insert(data.draw(st.integers(0, len(parts))), ...)
    a = np.arange(np.prod(shape)).reshape(shape)
    index, x = tuple(parts), mg.tensor(a, device="reference")
    try:
        expected = a[index]
    except IndexError:
        with pytest.raises((IndexError, ValueError)):
            x[index]
        return
    y = x[index]
    assert y.shape == expected.shape
    assert np.array_equal(y.numpy(), expected)


@DEVICES
@pytest.mark.parametrize(
    "name", ["list", "three that broadcast", "separated by ...", "mask and array"]
)
def test_gradients_of_order_2(name: str, device: str) -> None:
    f = lambda x: (x[INDICES[name]] ** 3).tanh()  # noqa: E731
    a = np.random.default_rng(0).uniform(-1, 1, X.shape)
    check_gradients(f, [a], device=device, name=name)


@DEVICES
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_elements_of_every_dtype(dtype: str, device: str) -> None:
    a = np.array([[0, 1, 2], [3, 0, 5]]).astype(dtype)
    x = mg.tensor(a, device=device)
    for index in ([1, 0], (slice(None), [2, 2]), a.astype(bool)):
        y = x[index]
        assert y.dtype == dtype
        assert np.array_equal(y.numpy(), a[index])


def test_a_copy_is_no_view_and_a_slice_is_one() -> None:
    x = mg.tensor([1.0, 2.0, 3.0])
    row, copy = x[1:], x[[1, 2]]
    mg.optim.assign(x, 0.0 * x)
    assert (row.numpy().tolist(), copy.numpy().tolist()) == ([0, 0], [2, 3])
    assert (row.version, copy.version) == (1, 0)


@DEVICES
@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ([0, 2], IndexError, r"index: 2 is outside an axis of size 2 of shape \(2, 3\)"),
        (([0], [-4]), IndexError, "index: -4 is outside an axis of size 3"),
        ((5, [0]), IndexError, "index: 5 is outside an axis of size 2"),
        ([True, False, True], IndexError, r"mask has shape \(3,\), the axes .* have \(2,\) of"),
        (np.ones((3, 2), bool), IndexError, r"mask has shape \(3, 2\)"),
        ([0.0, 1.0], TypeError, "index: an index of float64 and shape"),
        (np.array(True), TypeError, r"index of bool and shape \(\)"),
        ((True, [0]), TypeError, "an index of type bool; integers, slices, None, ..., and arrays"),
        (("a", [0]), TypeError, "an index of type str"),
        (([0], [0], [0]), ValueError, r"index: 3 indices for shape \(2, 3\)"),
        (([0, 1], [0, 1, 2]), ValueError, r"arrays of shapes \(2,\) and \(3,\) do not broadcast"),
    ],
)
def test_what_is_refused(index: Any, error: type[Exception], message: str, device: str) -> None:
    x = mg.tensor(np.ones((2, 3)), device=device)
    with pytest.raises(error, match=message):
        x[index]
    if not isinstance(index, np.ndarray) or index.ndim:
        with pytest.raises(error, match=message):
            x[_on(device, index)]


def test_devices_of_tensor_and_indices_agree() -> None:
    with pytest.raises(
        ValueError, match="index: the indices are on device 'cpu', the tensor on 'r"
    ):
        mg.tensor([1.0], device="reference")[mg.tensor([0], device="cpu")]


# --------------------------------------------------------------------------- in captured steps
@DEVICES
def test_a_replay_follows_the_indices(device: str) -> None:
    x = mg.tensor(X, device=device)
    step = mg.capture(lambda i, j: (x[i, :, j], x[[1, 0]], x[-1]))
    rng = np.random.default_rng(0)
    for _ in range(3):
        i, j = rng.integers(-2, 2, (3, 1)), rng.integers(-4, 4, 2)
        taken, rows, last = step(*(mg.tensor(a, device=device) for a in (i, j)))
        assert np.array_equal(taken.numpy(), X[i, :, j])
        assert np.array_equal(rows.numpy(), X[[1, 0]])
        assert np.array_equal(last.numpy(), X[-1])


@DEVICES
def test_a_replay_follows_a_list_that_changes(device: str) -> None:
    x, rows = mg.tensor([1.0, 2.0, 3.0], device=device), [0, 1]
    step = mg.capture(lambda: x[rows] * 1.0)
    assert step().numpy().tolist() == step().numpy().tolist() == [1, 2]
    rows[:] = [2, 0, 0]
    assert step().numpy().tolist() == [3, 1, 1]


@DEVICES
def test_an_index_outside_in_a_replay_takes_no_other_element(device: str) -> None:
    """Row 0, column 5 of rows of 3 is not row 1, column 2."""
    x = mg.tensor(np.ones((2, 3)), device=device)
    step = mg.capture(lambda i, j: x[i, j])
    zero = mg.tensor([0], device=device)
    assert step(zero, zero).numpy().tolist() == [1]
    for i, j in (([0], [5]), ([-3], [2]), ([1], [-4])):
        arguments = [mg.tensor(a, device=device) for a in (i, j)]
        if device.startswith("cuda"):
            assert np.isnan(step(*arguments).numpy()).all()
        else:
            with pytest.raises(IndexError, match="outside"):
                step(*arguments)


@DEVICES
def test_a_mask_is_refused_in_a_captured_step(device: str) -> None:
    """The shape of its result depends on its values, and that of a replay does not."""
    x = mg.tensor([1.0, 2.0, 3.0], device=device)
    mask = mg.tensor([True, False, True], device=device)
    with pytest.raises(TypeError, match=r"an index of float32 and shape \(3,\)"):
        mg.capture(lambda: x[x * 1.0])()
    for f in (lambda: x[x > 1], lambda: x[mask]):
        with pytest.raises(RuntimeError, match=r"cannot index with a bool tensor.*mg\.where"):
            mg.capture(f)()
    constant = np.array([True, False, True])
    step = mg.capture(lambda: x[constant] * 1.0)
    assert step().numpy().tolist() == [1, 3]
    constant[:] = [False, True, False]
    assert step().numpy().tolist() == [2]


@DEVICES
def test_gradients_through_a_captured_index(device: str) -> None:
    x = mg.tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    step = mg.capture(lambda i: mg.grad((x[i] ** 2).sum(), [x]))
    for i, expected in (([0, 0], [4, 0, 0]), ([2, -2], [0, 4, 6])):
        (gx,) = step(mg.tensor(i, device=device))
        assert gx.numpy().tolist() == expected
