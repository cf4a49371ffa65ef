"""Expressions of elementwise ops of one's own: any C math function, on every device."""

import ctypes
import ctypes.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from emulator_helpers import COMPILER

import minigan as mg
from minigan.engine.op import Op
from minigan.kernels.elementwise.expressions import ARITY, cuda_expression, parse
from minigan.ops.samples import uniform

DEVICES = ["cpu", *["cuda-emulator"] * bool(COMPILER)]
# All functions in two ops, so that few kernels are compiled: name -> units in the last place of
# float32 (glibc 2.36; measured over 40,000 numbers: at most 4.2, of tgamma).
ONE = [
    *("erf", "erfc", "expm1", "log1p", "log2", "log10", "exp2", "cbrt", "sinh", "cosh", "asinh"),
    *("atan", "tan", "tgamma", "lgamma", "trunc"),
]
TWO = ["hypot", "atan2", "fmod", "copysign", "fmax", "fmin", "remainder", "fdim"]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-40, -1e-40, 3e38, 0.5, -2.5]


@pytest.fixture
def make_elementwise(make_op: Callable[..., Op]) -> Callable[..., Op]:
    return mg.ops.elementwise_op


def _libm(name: str) -> Callable[..., np.ndarray]:
    function = getattr(ctypes.CDLL(ctypes.util.find_library("m")), name)
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * ARITY.get(name, 1)
    return np.vectorize(function, otypes=[np.float64])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("names", [ONE, TWO], ids=["one", "two"])
def test_c_s_math_functions(
    make_elementwise: Callable[..., Op], names: list[str], device: str
) -> None:
    """Against libm in float64: accurate to 8 units of float32; NaN, infinities and -0 right.

    The attribute k chooses the function.
    """
    arity = ARITY.get(names[0], 1)
    variables = ["a", "b"][:arity]
    body = "0"
    for k, name in enumerate(names):
        body = f"{name}({', '.join(variables)}) if k == {k} else ({body})"
    op = make_elementwise(
        f"math_{arity}",
        lambda *x, k: x[0],
        (None,) * arity,
        [(*[uniform(3)] * arity, {"k": 0.0})],
        expression=f"{' '.join(variables)} ; k -> {body}",
    )
    numbers = np.random.default_rng(0).standard_normal(500)
    a = np.concatenate([np.repeat(SPECIAL, len(SPECIAL)), numbers]).astype("float32")
    b = np.concatenate([np.tile(SPECIAL, len(SPECIAL)), numbers[::-1]]).astype("float32")
    inputs = [a, b][:arity]
    for k, name in enumerate(names):
        y = op(*(mg.tensor(x, device=device) for x in inputs), k=k).numpy()
        with np.errstate(all="ignore"):
            exact = _libm(name)(*(x.astype("float64") for x in inputs))
            expected = exact.astype("float32")
        finite = np.isfinite(expected)
        assert np.array_equal(y[~finite], expected[~finite], equal_nan=True), name
        # C leaves open which zero fmax(0, -0) is.
        zero = (expected == 0) & (name not in ("fmax", "fmin"))
        assert np.array_equal(np.signbit(y[zero]), np.signbit(expected[zero])), name
        unit = np.spacing(np.maximum(abs(expected[finite]), np.finfo("float32").tiny))
        assert (abs(y[finite] - exact[finite]) <= 8 * unit).all(), name


def test_an_op_in_one_line(make_elementwise: Callable[..., Op]) -> None:
    op = make_elementwise(
        "leaky_square",
        lambda x, slope: np.where(x > 0, x**2, x * x.dtype.type(slope)),
        (lambda g, y, x, slope: mg.ops.where(x > 0.0, g * 2.0 * x, g * slope),),
        [(uniform(3, 4), {"slope": 0.1})],
        expression="x ; slope -> x ** 2 if x > 0 else x * slope",
    )
    assert mg.check(op).devices == tuple(DEVICES)
    for device in DEVICES:
        x = mg.tensor([[3.0, -2.0]], device=device)
        assert np.allclose(op(x, slope=0.1).numpy(), [[9, -0.2]], rtol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_a_comparison_gives_bools(make_elementwise: Callable[..., Op], device: str) -> None:
    op = make_elementwise(
        "inside",
        lambda x, r: (-r < x) & (x <= r),
        (None, None),
        [(uniform(3, 4), uniform(4))],
        expression="x r -> -r < x <= r",
    )
    y = op(mg.tensor([-1.0, 0.5, 1.0, np.nan], device=device), 1.0).numpy()
    assert y.dtype == bool
    assert y.tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x -> 0.5 * x * (1 + erf(x))", "((REAL(0.5) * a) * (REAL(1) + erf(a)))"),
        ("x y ; s -> x ** 2 if x > y else -s", "((a > b) ? pow(a, REAL(2)) : (-p))"),
        ("x y -> 0 < x <= y and not x == 1", "((REAL(0) < a && a <= b) && (!(a == REAL(1))))"),
        ("x ; k s -> fma(x, k, s) / T(3)", "(REAL(fma(a, p, q)) / REAL(3))"),
        ("x -> abs(x) + log1p_unit(x)", "(magnitude(a) + log1p(a))"),
    ],
)
def test_an_expression_as_c(text: str, expected: str) -> None:
    e = parse("op", text)
    names = dict(zip(e.inputs, "abc", strict=False)) | dict(zip(e.attributes, "pq", strict=False))
    assert cuda_expression(e.body, names) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x + 1", "has not the form 'inputs -> expression'"),
        ("x -> x +", "is no expression"),
        ("x -> x + z", "z is neither an input nor an attribute"),
        ("x -> max(x, 0)", r"max is no function of floats on every device; use fmax\(a, b\)"),
        ("x -> ldexp(x, 2)", "ldexp is no function of floats"),
        ("x -> hypot(x)", "hypot takes 2 arguments, not 1"),
        ("x -> x % 2", r"Mod has no meaning on every device; use fmod\(a, b\)"),
        ("x -> np.exp(x)", r"np.exp\(x\): call C's functions by name"),
        ("x -> [x]", r"\[x\] is no arithmetic"),
        ("x ; k -> x * k", "the op's attributes are: none"),
        ("x y -> x * y", "the op has 1 inputs"),
    ],
)
def test_an_expression_that_cannot_be(
    make_elementwise: Callable[..., Op], text: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        make_elementwise("wrong", np.exp, (None,), [(uniform(3),)], expression=text)
    assert "wrong" not in Op.registry


def test_an_unknown_function(make_elementwise: Callable[..., Op]) -> None:
    op: Any = make_elementwise(
        "unknown", np.exp, (None,), [(uniform(3),)], expression="x -> arcsin(x)"
    )
    with pytest.raises(ValueError, match="arcsin is no math function of the C library"):
        op(mg.tensor([0.5]))


@pytest.mark.parametrize("device", DEVICES)
def test_a_quotient_of_comparisons_is_one_of_floats(
    make_elementwise: Callable[..., Op], device: str
) -> None:
    """In C++ the quotient of two bools is an integer, and by 0 it is undefined."""
    op = make_elementwise(
        "quotient_of_signs",
        lambda a, b: np.true_divide(a > 0, b > 0).astype(a.dtype),
        (None, None),
        [(uniform(4), uniform(4))],
        expression="a b -> (a > 0) / (b > 0)",
    )
    a, b = (mg.tensor(x, device=device) for x in ([1.0, 1, -1, -1], [1.0, -1, 1, -1]))
    np.testing.assert_array_equal(op(a, b).numpy(), [1, np.inf, 0, np.nan])
