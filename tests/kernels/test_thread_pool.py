"""Launches on several threads: every task runs once, and no thread is waited for."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import threads

import minigan as mg
from minigan.kernels.runtime.cpu import thread_pool as pool
from minigan.kernels.runtime.cpu.atomics import load_acquire, pause, store_release
from minigan.kernels.runtime.cpu.call import CAN_CALL_BY_ADDRESS
from minigan.kernels.runtime.cpu.compiler import jit
from minigan.kernels.runtime.cpu.launch import launch
from minigan.kernels.runtime.cpu.replay import Replay
from minigan.kernels.runtime.recording import Recording, record

needs_calls = pytest.mark.skipif(
    not CAN_CALL_BY_ADDRESS, reason="kernels are not called by address here"
)


@jit
def count(x, begin, end):
    for i in range(begin, end):
        x[i] += 1


@jit
def meet(x, patience, begin, end):
    """Wait, in each of two tasks, until the other one has begun."""
    for i in range(begin, end):
        store_release(x, i, 1)
        while patience > 0 and load_acquire(x, 1 - i) == 0:
            pause()
            patience -= 1
        x[2 + i] = patience


@jit
def fail(x, begin, end):
    for i in range(begin, end):
        if i == 77:
            raise IndexError("there is no 77")
        x[i] += 1


@pytest.fixture
def no_workers(monkeypatch):
    """No worker is woken."""
    monkeypatch.setattr(pool._ThreadPool, "wake", lambda self, workers: None)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("parts", [1, 2, 3, 32, 33])
def test_every_iteration_runs_once(size, parts):
    x = np.zeros(size, np.int64)
    for _ in range(300):
        launch(count, x, over=size, parts=parts)
    assert (x == 300).all()


@pytest.mark.parametrize("parts", [2, 16])
def test_absent_workers_are_not_waited_for(parts, no_workers):
    x = np.zeros(100, np.int64)
    launch(count, x, over=100, parts=parts)
    assert (x == 1).all()


@needs_calls
def test_tasks_run_at_one_time():
    for _ in range(50):  # the system may have no core for the worker now and then
        x = np.zeros(4, np.int64)
        launch(meet, x, 10_000_000, over=2, parts=2)
        if x[2] > 0 and x[3] > 0:
            return
    raise AssertionError("the two tasks never ran at one time")


@needs_calls
def test_while_one_launch_uses_the_workers_another_runs_without():
    x = np.zeros(9, np.int64)
    shared = pool.start_workers(2)
    shared[pool.LOCKED] = 1
    try:
        mask = shared[pool.TASK_MASK]
        launch(count, x, over=9, parts=3)
        assert shared[pool.TASK_MASK] == mask
    finally:
        shared[pool.LOCKED] = 0
    assert (x == 1).all()
    launch(count, x, over=9, parts=3)
    assert shared[pool.TASK_MASK] != mask


def test_many_python_threads_launch_at_once():
    xs = [np.zeros(50, np.int64) for _ in range(4)]

    def launch_often(x):
        for _ in range(2000):
            launch(count, x, over=50, parts=3)

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(launch_often, xs))
    assert all((x == 2000).all() for x in xs)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_an_error_of_a_task_is_raised(parts):
    with pytest.raises(IndexError, match="there is no 77"):
        launch(fail, np.zeros(100, np.int64), over=100, parts=parts)
    x = np.zeros(70, np.int64)
    launch(fail, x, over=70, parts=parts)  # the pool works after an error
    assert (x == 1).all()


def test_a_replay_divides_its_launches():
    x, y = np.zeros(100, np.int64), np.zeros(3, np.int64)
    recorded = Recording()
    with record(recorded):
        for parts in (1, 2, 7):
            launch(count, x, over=100, parts=parts)
            launch(count, y, 1, 2)
    again = (
        Replay(recorded.launches)
        if CAN_CALL_BY_ADDRESS
        else lambda: [f() for f in recorded.launches]
    )
    for _ in range(500):
        again()
    assert (x == 3 * 501).all()
    assert y.tolist() == [0, 3 * 501, 0]


@needs_calls
def test_a_replay_raises_the_error_of_a_task():
    x, last = np.zeros(100, np.int64), np.array([70])

    recorded = Recording()
    with record(recorded):
        launch(count, x, over=100, parts=2)
        launch(upto, x, last, over=2, parts=2)
        launch(count, x, over=100, parts=2)
    last[0] = 100
    with pytest.raises(IndexError, match="too far"):
        Replay(recorded.launches)()
    assert x[99] == 3  # the last launch was not done again
    last[0] = 70
    Replay(recorded.launches)()
    assert x[99] == 5


@jit
def upto(x, last, begin, end):
    for i in range(begin, end):
        if last[0] > 90 and i == 1:
            raise IndexError("too far")


def test_without_calls_by_address_python_threads_run_the_tasks(monkeypatch):
    monkeypatch.setattr(pool, "CAN_CALL_BY_ADDRESS", False)
    x = np.zeros(100, np.int64)
    launch(count, x, over=100, parts=4)
    assert (x == 1).all()
    with pytest.raises(IndexError, match="there is no 77"):
        launch(fail, x, over=100, parts=4)


def test_idle_threads_sleep():
    x = np.zeros(100, np.int64)
    launch(count, x, over=100, parts=4)
    before = threading.active_count()
    time.sleep(0.2)
    used = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - used < 0.1
    launch(count, x, over=100, parts=4)
    assert threading.active_count() == before


def test_a_worker_about_to_sleep_is_woken(monkeypatch):
    """A worker that has stopped spinning and waits for Python misses no launch."""
    asleep, go_on = threading.Event(), threading.Event()
    rounds = []

    mine = pool._ThreadPool()

    def work(shared, rank, spins):
        if spins and shared is mine.shared:  # threads of other tests may still be about
            rounds.append(rank)
            asleep.set()
            go_on.wait(10)

    monkeypatch.setattr(pool, "_work", work)
    mine.wake(1)
    assert asleep.wait(10)
    asleep.clear()
    mine.wake(1)  # while it works: it must work once more
    go_on.set()
    assert asleep.wait(10)
    assert rounds[:2] == [1, 1]


def test_without_threads_from_the_system_a_launch_runs(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    mine = pool._ThreadPool()
    monkeypatch.setattr(pool, "_pool", mine)
    monkeypatch.setattr(threading.Thread, "start", start)
    x = np.zeros(100, np.int64)
    launch(count, x, over=100, parts=2)
    assert (x == 1).all()
    assert mine._events == []


def test_results_do_not_depend_on_workers(no_workers):
    a = mg.random.normal((130, 700))
    one = mg.ops.matmul(a, a.T).numpy()
    with threads(2):
        assert np.array_equal(mg.ops.matmul(a, a.T).numpy(), one)
