"""What the names in a captured step lead to: classes, slots, imports, containers, arguments."""

import array
import sys
from collections import UserDict, deque
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from queue import Queue
from types import ModuleType

import pytest

import minigan as mg
from minigan import optim


class Scale:
    factor, table = 2.0, [2.0]

    def __init__(self):
        self.own = 2.0

    @classmethod
    def by_class(cls, x):
        return x * cls.factor

    def by_method(self, x):
        return x * self.own

    def by_table(self, x):
        return x * self.table[0]

    def __mul__(self, x):
        return x * self.own

    def __getitem__(self, key):
        return self.own

    def __getattr__(self, name):
        if name != "missing":
            raise AttributeError(name)
        return self.__dict__["own"]


class SubScale(Scale):
    def by_method(self, x):
        return super().by_method(x)


class Slots:
    __slots__ = ("factor",)

    def __init__(self):
        self.factor = 2.0


def _set_factor(value):
    Scale.factor = value


def _by_import(x):
    from guards_module import factor

    return x * factor


def make_steps():
    """Return (step, function that sets the factor that the step multiplies by) by name."""
    scale, sub, slots, many = Scale(), SubScale(), Slots(), dict.fromkeys(range(100), 2.0)
    module = ModuleType("guards_module")
    module.factor, sys.modules["guards_module"] = 2.0, module
    views = {
        "deque": deque([2.0]),
        "UserDict": UserDict({0: 2.0}),
        "array": array.array("d", [2.0]),
    }
    variable = ContextVar("factor", default=2.0)

    def with_default(x, factor=2.0):
        return x * factor

    def set_default(value):
        with_default.__defaults__ = (value,)

    def set_own(value):
        scale.own = sub.own = value

    return {
        "class": (lambda x: x * SubScale.factor, _set_factor),
        "class method": (scale.by_class, _set_factor),
        "class method by class": (SubScale.by_class, _set_factor),
        "object made in the step": (lambda x: x * Scale().factor, _set_factor),
        "list of a class": (scale.by_table, lambda value: Scale.table.__setitem__(0, value)),
        "super": (sub.by_method, set_own),
        "operator": (lambda x: scale * x, set_own),
        "subscript": (lambda x: x * scale["key"], set_own),
        "__getattr__": (lambda x: x * scale.missing, set_own),
        "getattr": (lambda x: x * getattr(scale, "own"), set_own),  # noqa: B009
        "vars": (lambda x: x * vars(scale)["own"], set_own),
        "after a subscript": (lambda x: x * [scale][0].own, set_own),
        "slots": (lambda x: x * slots.factor, lambda value: setattr(slots, "factor", value)),
        "import": (_by_import, lambda value: setattr(module, "factor", value)),
        "default": (with_default, set_default),
        "100 elements": (lambda x: x * many[3], lambda value: many.__setitem__(3, value)),
        "context variable": (lambda x: x * variable.get(), variable.set),
        **{
            name: (lambda x, view=view: x * view[0], partial(view.__setitem__, 0))
            for name, view in views.items()
        },
    }


@pytest.mark.parametrize("name", make_steps())
def test_a_value_that_a_name_leads_to_is_captured_again(name):
    Scale.factor, Scale.table = 2.0, [2.0]
    step, set_factor = make_steps()[name]
    captured, x = mg.capture(step), mg.tensor([1.0, 3.0])
    for factor in (2.0, 2.0, 5.0, 5.0, 7.0):
        set_factor(factor)
        assert captured(x).numpy().tolist() == [factor, 3 * factor]
    assert sum(map(len, captured.captures.values())) == 3


def test_an_argument_that_is_an_object_or_function():
    scale, x = Scale(), mg.tensor([1.0])
    factors = [2.0]
    steps = {
        "attribute": (lambda x, a: x * a.own, scale),
        "method": (lambda x, a: a.by_method(x), scale),
        "function": (lambda x, a: a(x), lambda x: x * factors[0]),
        "partial": (lambda x, a: a(x), partial(lambda k, x: x * k[0], factors)),
    }
    for step, argument in steps.values():
        captured = mg.capture(step)
        for factor in (2.0, 2.0, 5.0):
            scale.own = factors[0] = factor
            assert captured(x, argument).item() == factor


def test_capture_decorates_a_method():
    class Trainer:
        def __init__(self, factor):
            self.factor, self.count = factor, 0

        @mg.capture
        def step(self, x):
            self.count += 1
            return x * self.factor

    a, b, x = Trainer(2.0), Trainer(3.0), mg.tensor([1.0])
    assert [y.step(x).item() for y in (a, b, a, b)] == [2, 3, 2, 3]
    a.factor = 5.0
    assert (a.step(x).item(), b.step(x).item(), a.count, b.count) == (5, 3, 2, 1)


def test_iterators_are_refused():
    batches = iter([mg.tensor([1.0]), mg.tensor([2.0])])
    step = mg.capture(lambda: next(batches) * 2.0)
    with pytest.raises(ValueError, match="the step takes elements of batches, an iterator"):
        step()
    assert next(batches).item() == 1
    with pytest.raises(TypeError, match="an argument is generator, an iterator"):
        mg.capture(lambda x: x)(x for x in [1])

    @mg.capture
    def generate(x):
        yield x

    @dataclass
    class Result:
        loss: mg.Tensor

    for step in (generate, mg.capture(Result), mg.capture(lambda x: {x})):
        with pytest.raises(TypeError, match=r"capture: a result is (generator|Result|set)"):
            step(mg.tensor([1.0]))


def test_queues_are_refused_and_loaders_of_which_only_attributes_are_read_are_not():
    queue = Queue()
    queue.put(mg.tensor([1.0]))
    with pytest.raises(ValueError, match="the step takes elements of queue"):
        mg.capture(lambda: queue.get() * 2.0)()

    class Loader:
        factor = 2.0

        def __iter__(self):
            return self

        def __next__(self):
            return mg.tensor([1.0])

    loader, x = Loader(), mg.tensor([1.0])
    step = mg.capture(lambda x: x * loader.factor)
    assert step(x).item() == 2
    loader.factor = 3.0
    assert step(x).item() == 3
    with pytest.raises(ValueError, match="the step takes elements of loader, an iterator"):
        mg.capture(lambda: next(loader) * 1.0)()


def test_a_dataclass_that_counts_is_captured_once():
    @dataclass
    class State:
        factor: float = 2.0
        count: int = 0

    state = State()

    def step(x):
        state.count = state.count + 1
        return x * state.factor

    captured, x = mg.capture(step), mg.tensor([1.0])
    assert [captured(x).item() for _ in range(5)] == [2.0] * 5
    assert state.count == 1


def test_an_argument_that_the_step_changes_from_outside_is_refused():
    w = mg.tensor([1.0], requires_grad=True)
    sgd = optim.SGD([w], 1.0)

    @mg.capture
    def step(x):
        sgd.step([mg.tensor([1.0])])
        return x * 1.0

    assert step(mg.tensor([3.0])).item() == 3
    before = w.numpy()
    with pytest.raises(ValueError, match="tensor 0 of the arguments is one that the step changes"):
        step(w.detach())
    assert w.numpy() == before
    with pytest.raises(ValueError, match="sgd changes an argument of the step"):
        mg.capture(step.step)(w.detach())


def test_arguments_of_capture_itself():
    for check in (-1, "2", True, 1.0):
        with pytest.raises(TypeError, match="capture: check = "):
            mg.capture(lambda x: x, check=check)
    with pytest.raises(TypeError, match="capture: int is not a function"):
        mg.capture(5)
