"""Medians of interleaved calls."""

import time

from minigan.kernels.runtime.timing import medians


def test_calls_are_interleaved_and_the_median_is_taken(monkeypatch):
    clock, order = [0.0], []
    seconds = {"a": iter([9.0, 1.0, 100.0, 2.0]), "b": iter([9.0, 5.0, 4.0, 6.0])}

    def call(name):
        order.append(name)
        clock[0] += next(seconds[name])

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    result = medians({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=3)
    assert order == ["a", "b"] * 4  # the first round is not timed
    assert result == {"a": 2.0, "b": 5.0}
