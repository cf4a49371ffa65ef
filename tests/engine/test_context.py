"""Devices, gradient mode and generators belong to a thread or task; locks survive a fork."""

import asyncio
import contextlib
import os
import threading
import time

import numpy as np
import pytest

import minigan as mg
from minigan.engine.device import current_device, get_device
from minigan.engine.tensor import is_grad_enabled
from minigan.kernels.runtime.locks import ForkSafeLock
from minigan.training.config import Config
from minigan.training.trainer import Trainer


def test_asyncio_tasks_have_their_own_device_mode_and_generator():
    states = {}

    async def task(name, device, mode):
        generator = mg.random.Generator(1)
        with mg.use_device(device), mode, mg.random.use_generator(generator):
            for _ in range(3):
                await asyncio.sleep(0)
                current = current_device().name, is_grad_enabled(), mg.random.current_generator()
                states.setdefault(name, []).append(current == (device, name == "a", generator))

    async def main():
        await asyncio.gather(
            task("a", "reference", contextlib.nullcontext()), task("b", "cpu", mg.no_grad())
        )
        mg.use_device("reference")  # for this task alone

    asyncio.run(main())
    assert states == {"a": [True] * 3, "b": [True] * 3}
    assert current_device().name == "cpu"
    assert is_grad_enabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child():
    lock, generator = ForkSafeLock(), mg.random.Generator(0)
    held, release = threading.Event(), threading.Event()

    def hold():
        with lock, generator._lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        with lock:
            generator.normal((2,), device="reference")
            get_device("reference")
        os._exit(0)
    try:
        deadline = time.monotonic() + 30
        status = None
        while status is None and time.monotonic() < deadline:
            pid, code = os.waitpid(child, os.WNOHANG)
            status = code if pid else None
            time.sleep(0.01)
        assert status == 0
    finally:
        release.set()
        thread.join()
        if status is None:
            os.kill(child, 9)
            os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_waits_for_the_compiler():
    """The child of a fork in the middle of a compilation would wait for the compiler's lock."""
    from numba.core.compiler_lock import global_compiler_lock

    mg.get_device("cpu")
    held, forked = threading.Event(), threading.Event()

    def compile_slowly():
        with global_compiler_lock:
            held.set()
            forked.wait(0.3)

    thread = threading.Thread(target=compile_slowly)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        is_free = global_compiler_lock._lock.acquire(timeout=5)
        os._exit(0 if is_free else 1)
    forked.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    with global_compiler_lock:
        pass


def make_trainer(seed):
    return Trainer(Config(data="ring", samples=500, batch=32, seed=seed, device="reference"))


def run(trainer, steps=6):
    return [tuple(trainer.step().values()) for _ in range(steps)]


def test_trainers_in_turns_do_not_change_each_other():
    expected = [run(make_trainer(seed)) for seed in (1, 2)]
    mg.manual_seed(5)
    before = mg.random.default_generator().state()
    trainers = [make_trainer(seed) for seed in (1, 2)]
    rows = [[], []]
    for _ in range(6):
        for i, trainer in enumerate(trainers):
            mg.manual_seed(5)
            rows[i] += run(trainer, 1)
            trainer.sample(4, seed=3)
    assert rows == expected
    assert mg.random.default_generator().state() == before


def test_trainers_in_threads_do_not_change_each_other():
    seeds = (1, 2, 3)
    expected = {seed: run(make_trainer(seed)) for seed in seeds}
    rows = {}
    threads = [
        threading.Thread(target=lambda seed=seed: rows.update({seed: run(make_trainer(seed))}))
        for seed in seeds
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows == expected


def test_samples_do_not_depend_on_the_default_generator():
    trainer = make_trainer(1)
    first = trainer.sample(5, seed=3)
    mg.manual_seed(99)
    run(trainer, 2)
    trainer = make_trainer(1)
    np.testing.assert_array_equal(trainer.sample(5, seed=3), first)
