"""`mg.jacobian`: all derivatives of a few numbers by some inputs."""

import numpy as np
import pytest
from helpers import DEVICES

import minigan as mg
from minigan import ops


@DEVICES
def test_a_matrix_is_the_jacobian_of_its_product(device: str, rng: np.random.Generator) -> None:
    w, x = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
    a = mg.tensor(w, device=device, requires_grad=True)
    b = mg.tensor(x, device=device, requires_grad=True)
    by_a, by_b = mg.jacobian(a @ b, [a, b])
    assert (by_a.shape, by_b.shape) == ((3, 2, 3, 4), (3, 2, 4, 2))
    # d (a b)[i, j] / d a[k, l] = [i = k] b[l, j], and likewise by b.
    assert np.allclose(by_a.numpy(), np.einsum("ik,lj->ijkl", np.eye(3), x), rtol=1e-14)
    assert np.allclose(by_b.numpy(), np.einsum("jl,ik->ijkl", np.eye(2), w), rtol=1e-14)


def test_a_scalar_has_its_gradient_and_one_input_needs_no_list() -> None:
    x = mg.tensor([1.0, 2.0, 3.0], "float64", requires_grad=True)
    (j,) = mg.jacobian((x * x).sum(), x)
    assert j.numpy().tolist() == [2, 4, 6]
    assert not j.requires_grad


def test_with_create_graph_it_is_differentiated_again() -> None:
    x = mg.tensor([0.5, -1.0], "float64", requires_grad=True)
    (gradient,) = mg.jacobian(ops.exp(x.sum()), x, create_graph=True)
    (hessian,) = mg.jacobian(gradient, x)
    assert np.allclose(hessian.numpy(), np.exp(-0.5) * np.ones((2, 2)), rtol=1e-14)


def test_an_element_that_does_not_depend_on_an_input_has_zeros() -> None:
    a, b = (mg.tensor(x, "float64", requires_grad=True) for x in (2.0, 3.0))
    by_a, by_b = mg.jacobian(mg.stack([a * a, b * a]), [a, b])
    assert by_a.numpy().tolist() == [4, 3]
    assert by_b.numpy().tolist() == [0, 2]


def test_what_has_no_jacobian() -> None:
    x, y = (mg.tensor([1.0], requires_grad=True) for _ in range(2))
    with pytest.raises(ValueError, match="does not depend on input 1"):
        mg.jacobian(x * 2.0, [x, y])
    with pytest.raises(ValueError, match=r"jacobian: the output has shape \(0,\), and no element"):
        mg.jacobian(x[:0] * 1.0, x)
    with pytest.raises(TypeError, match="not a tensor"):
        mg.jacobian([x], x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not require gradients"):
        mg.jacobian(x * 2.0, mg.tensor([1.0]))
