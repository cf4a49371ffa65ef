"""Expressions of elementwise kernels: parsed, with constants in the kernel's dtype, and as C++.

    "x ; slope -> x if x > 0 else x * slope"        inputs ; attributes -> expression

An expression is Python's: + - * / **, comparisons, `and`, `or`, `not`, `a if c else b`, abs(x), and
C's math functions by their C names (erf, hypot, atan2, ...). T(x) converts to the kernel's dtype.
"""

from __future__ import annotations

import ast
import hashlib
from typing import NamedTuple

# C functions of two and three floats; all others that an expression may call take one.
TWO_ARGUMENTS = frozenset(
    ("atan2", "copysign", "fdim", "fmax", "fmin", "fmod", "hypot", "nextafter", "pow", "remainder")
)
ARITY = {**dict.fromkeys(TWO_ARGUMENTS, 2), "at_least": 2, "fma": 3}
# Functions of <math.h> with a parameter or a result that is no float.
NOT_FLOAT = frozenset(
    ("frexp", "ilogb", "jn", "ldexp", "llrint", "llround", "lrint", "lround", "modf", "nan")
).union(("nexttoward", "remquo", "scalbln", "scalbn", "sincos", "yn"))
# What means the same in Python, numba and CUDA is `abs`; these do not treat NaN alike.
ADVICE = {
    "max": "fmax(a, b), which ignores NaN, or `a if a >= b or a != a else b`",
    "min": "fmin(a, b), which ignores NaN, or `a if a <= b or a != a else b`",
    "round": "rint(x)",
    "int": "trunc(x)",
    "float": "T(x)",
    "gamma": "tgamma(x)",
    "arctan2": "atan2(y, x)",
}
# The functions of kernels that have another name in CUDA C++.
CUDA_NAMES = {"abs": "magnitude", "log1p_unit": "log1p", "T": "REAL"}
_OPERATORS: dict[type[ast.AST], str] = {
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.UAdd: "+", ast.USub: "-"},
    **{ast.Not: "!", ast.And: "&&", ast.Or: "||", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">"},
    **{ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="},
}


class Expression(NamedTuple):
    """A parsed expression; `name` is unique to its op and text."""

    name: str
    inputs: tuple[str, ...]
    attributes: tuple[str, ...]
    body: ast.expr  # its constants are T(c)

    @property
    def text(self) -> str:
        """The expression in the form of the table of `cpu.py`."""
        attributes = f" ; {' '.join(self.attributes)}" if self.attributes else ""
        return f"{' '.join(self.inputs)}{attributes} -> {ast.unparse(self.body)}"

    @property
    def is_comparison(self) -> bool:
        """Whether the result is a bool."""
        x = self.body
        is_not = isinstance(x, ast.UnaryOp) and isinstance(x.op, ast.Not)
        return is_not or isinstance(x, (ast.Compare, ast.BoolOp))


def parse(op: str, text: str) -> Expression:
    """Parse the expression of an op.

    Raises:
        ValueError: it has another form, names a variable that is no input or attribute, or uses
            what has no meaning on every device.
    """
    head, arrow, body = text.partition("->")
    inputs, _, attributes = head.partition(";")
    variables = *inputs.split(), *attributes.split()
    if not arrow or not inputs.split() or not all(x.isidentifier() for x in variables):
        raise ValueError(
            f"{op}: {text!r} has not the form 'inputs -> expression' or"
            " 'inputs ; attributes -> expression'"
        )
    try:
        tree = ast.parse(body.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{op}: {text!r} is no expression: {error.msg}") from None
    for node in ast.walk(tree):
        _check(op, text, node, variables)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    body_tree: ast.expr = _Constants().visit(tree)
    return Expression(f"{op}_{digest}", tuple(inputs.split()), tuple(attributes.split()), body_tree)


def _check(op: str, text: str, node: ast.AST, variables: tuple[str, ...]) -> None:
    """Raise ValueError for a node that an expression may not have."""
    where = f"{op}: in {text.strip()!r}, "
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise ValueError(f"{where}{ast.unparse(node)}: call C's functions by name, as erf(x)")
        name, count = node.func.id, len(node.args)
        if name in NOT_FLOAT or name in ADVICE:
            advice = f"; use {ADVICE[name]}" if name in ADVICE else ""
            raise ValueError(f"{where}{name} is no function of floats on every device{advice}")
        if count != ARITY.get(name, 1):
            raise ValueError(f"{where}{name} takes {ARITY.get(name, 1)} arguments, not {count}")
    elif isinstance(node, ast.Name):
        if node.id not in variables and not _is_called(node, text):
            raise ValueError(f"{where}{node.id} is neither an input nor an attribute")
    elif isinstance(node, ast.Constant):
        if not isinstance(node.value, (int, float)):
            raise ValueError(f"{where}{node.value!r} is no number")
    elif isinstance(node, (ast.operator, ast.unaryop, ast.cmpop, ast.boolop)):
        if type(node) not in _OPERATORS and not isinstance(node, ast.Pow):
            others: dict[type[ast.AST], str] = {ast.Mod: "fmod(a, b)", ast.FloorDiv: "floor(a / b)"}
            advice = f"; use {others[type(node)]}" if type(node) in others else ""
            raise ValueError(f"{where}{type(node).__name__} has no meaning on every device{advice}")
    elif not isinstance(
        node, (ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp, ast.expr_context)
    ):
        raise ValueError(f"{where}{ast.unparse(node)} is no arithmetic")


def _is_called(name: ast.Name, text: str) -> bool:
    """Return whether a name of the expression is that of a function that it calls."""
    tree = ast.parse(text.partition("->")[2].strip(), mode="eval")
    calls = (x.func for x in ast.walk(tree) if isinstance(x, ast.Call))
    return any(isinstance(x, ast.Name) and x.id == name.id for x in calls)


class _Constants(ast.NodeTransformer):
    """Convert the constants of an expression to the kernel's dtype: 0.5 becomes T(0.5)."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        if not (isinstance(node.func, ast.Name) and node.func.id == "T" and _is_number(node)):
            self.generic_visit(node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.Call(ast.Name("T", ast.Load()), [node], [])


def _is_number(call: ast.Call) -> bool:
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant)


def called(expression: str) -> dict[str, int]:
    """Return the functions that a Python expression calls, with their numbers of arguments."""
    calls = [x for x in ast.walk(ast.parse(expression, mode="eval")) if isinstance(x, ast.Call)]
    return {x.func.id: len(x.args) for x in calls if isinstance(x.func, ast.Name)}


def cuda_expression(expression: ast.expr, names: dict[str, str]) -> str:
    """Return an expression as C++, its variables renamed."""
    return _Cuda(names).visit(expression)


class _Cuda(ast.NodeVisitor):
    """Translate an expression to C++; each method returns the text of its node."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, x: ast.Name) -> str:
        return self.names[x.id]

    def visit_Constant(self, x: ast.Constant) -> str:
        return str(x.value) if isinstance(x.value, float) else str(int(x.value))  # type: ignore[arg-type]

    def visit_Call(self, x: ast.Call) -> str:
        assert isinstance(x.func, ast.Name)
        name = CUDA_NAMES.get(x.func.id, x.func.id)
        return f"{name}({', '.join(map(self.visit, x.args))})"

    def visit_UnaryOp(self, x: ast.UnaryOp) -> str:
        return f"({_OPERATORS[type(x.op)]}{self.visit(x.operand)})"

    def visit_BinOp(self, x: ast.BinOp) -> str:
        left, right = self.visit(x.left), self.visit(x.right)
        if isinstance(x.op, ast.Pow):
            return f"pow({left}, {right})"
        if isinstance(x.op, ast.Div):  # C++ divides the results of two comparisons as integers.
            left = f"REAL({left})"
        return f"({left} {_OPERATORS[type(x.op)]} {right})"

    def visit_BoolOp(self, x: ast.BoolOp) -> str:
        return f"({f' {_OPERATORS[type(x.op)]} '.join(map(self.visit, x.values))})"

    def visit_IfExp(self, x: ast.IfExp) -> str:
        return f"({self.visit(x.test)} ? {self.visit(x.body)} : {self.visit(x.orelse)})"

    def visit_Compare(self, x: ast.Compare) -> str:
        sides = [self.visit(side) for side in (x.left, *x.comparators)]
        signs = [_OPERATORS[type(op)] for op in x.ops]
        pairs = zip(sides, signs, sides[1:], strict=False)
        return f"({' && '.join(f'{a} {sign} {b}' for a, sign, b in pairs)})"
