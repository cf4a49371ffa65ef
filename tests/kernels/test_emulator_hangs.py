"""A launch that does not end is named, can be interrupted, and may pause without an effect."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from emulator_helpers import needs_compiler

import minigan as mg
from minigan.kernels.runtime.emulator import compiler, emulator

SOURCE = Path(__file__).with_name("emulated_grid.cu")
pytestmark = needs_compiler
BUILDS = pytest.mark.parametrize("build", ["fast", "checked", "debug"])
TWO_BUILDS = pytest.mark.parametrize("build", ["fast", "checked"])
# kernel: grid, block, the other arguments, the block and thread that hang
HANGS = {
    "waits_for_a_later_block": (2, 1, (np.zeros(1, np.int32),), (0, 0)),
    "loops_for_ever": (1, 64, (), (0, 3)),
    "waits_without_access": (2, 32, (), (0, 3)),
}


def compiled(build, hang_seconds=0.5):
    return mg.cuda.compile(SOURCE, build=build, hang_seconds=hang_seconds)


def assert_usable(module):
    next_, y = np.zeros(1, np.int32), np.zeros(40, np.int32)
    module.positions[40, 64](next_, y)
    assert y.tolist() == list(range(40))


def state_after(steps, x):
    """Return the state of long_blocks: a sum of a geometric series, modulo 2^32."""
    a, c = 1664525, 1013904223
    power = pow(a, steps, (a - 1) << 32)
    return (power * x + (power - 1) // (a - 1) * c) % 2**32


def steps_of(module, seconds):
    """Return how many steps of long_blocks[1, 2] take about so many seconds of this thread."""
    y, n = np.zeros(2, np.uint32), 200_000
    for _ in range(2):  # The first launch compiles.
        begin = time.thread_time()
        module.long_blocks[1, 2](y, n)
        end = time.thread_time()
    return int(n * seconds / (end - begin))


@BUILDS
@pytest.mark.parametrize("kernel", HANGS)
def test_a_hang_is_named(build, kernel):
    module = compiled(build)
    grid, block, arguments, (index, thread) = HANGS[kernel]
    assert_usable(module)  # compiled
    begin, y = time.monotonic(), np.zeros(64, "f")
    with pytest.raises(mg.cuda.KernelError) as error:
        getattr(module, kernel)[grid, block](*arguments, y)
    message = str(error.value)
    assert time.monotonic() - begin < 20, "it has 0.5 s"
    assert f"block ({index}, 0, 0), thread ({thread}, 0, 0) has computed for" in message
    assert "(hang_seconds=0.5) without reaching a barrier or its end" in message
    if build == "checked":
        lines = SOURCE.read_text().splitlines()
        line = next(i for i, text in enumerate(lines, 1) if text.endswith(f"HERE {kernel}"))
        assert message.startswith(
            (f"{kernel} ({SOURCE.name}:{line}): ", f"{kernel} ({SOURCE.name}:{line + 1}): ")
        )
        assert not y.any(), "numpy's arrays are as before"
    assert_usable(module)


@TWO_BUILDS
def test_a_long_launch_is_no_hang(build):
    """Each of its threads takes a twentieth of hang_seconds, and all together five times as long.

    The speed of a busy machine, of a core that is shared too, changed in between by a factor of
    eleven.
    """
    module = compiled(build, hang_seconds=1.0)
    n = steps_of(module, 0.1)  # by two threads
    y = np.zeros(100, np.uint32)
    begin = time.thread_time()
    module.long_blocks[50, 2](y, n)
    assert time.thread_time() - begin > 1.0, "longer than hang_seconds"
    assert y.tolist() == [state_after(n, b + t) for b in range(50) for t in range(2)]


@BUILDS
def test_ctrl_c_interrupts_a_launch(build):
    module, y = compiled(build, float("inf")), np.zeros(64, "f")
    assert_usable(module)
    for kernel in ("loops_for_ever", "waits_without_access"):
        sent = []

        def interrupt(sent=sent):
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(0.3, interrupt)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            getattr(module, kernel)[1, 64](y)
        assert time.monotonic() - sent[0] < 5, "a second on an idle machine"
        timer.join()
        assert_usable(module)


@TWO_BUILDS
def test_a_signal_that_raises_nothing_changes_nothing(build):
    """Python's handler runs while the launch is paused, which then goes on."""
    module, calls = compiled(build, 60.0), []
    n = steps_of(module, 1.0)
    y = np.zeros(2, np.uint32)
    before = signal.signal(signal.SIGALRM, lambda *_: calls.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        begin = time.monotonic()
        module.long_blocks[1, 2](y, n)
        end = time.monotonic()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert end - begin > 0.3, "too short to be interrupted"
    assert any(begin < call < end - 0.01 for call in calls)
    assert y.tolist() == [state_after(n, 0), state_after(n, 1)]


@TWO_BUILDS
def test_a_signal_handler_cannot_launch_in_between(build):
    """Both launches would use the same global variables."""
    module = compiled(build, 60.0)
    n = steps_of(module, 1.0)
    y, other = np.zeros(2, np.uint32), np.zeros(2, np.uint32)

    def launch(*_):
        module.long_blocks[1, 2](other, 5)

    before = signal.signal(signal.SIGALRM, launch)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(
            mg.cuda.KernelError, match=r"long_blocks .* is running, and this launch"
        ):
            module.long_blocks[1, 2](y, n)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not other.any()
    assert_usable(module)


def test_a_launch_of_another_python_thread_hangs_too():
    module, errors = compiled("fast"), []

    def launch():
        try:
            module.waits_without_access[1, 32](np.zeros(64, "f"))
        except mg.cuda.KernelError as error:
            errors.append(str(error))

    thread = threading.Thread(target=launch)
    thread.start()
    thread.join(30)
    assert len(errors) == 1
    assert "thread (3, 0, 0) has computed for" in errors[0]
    assert_usable(module)


def test_after_a_launch_the_signal_handlers_are_those_before():
    module, calls = compiled("fast"), []
    before = signal.signal(signal.SIGVTALRM, lambda *_: calls.append(1))
    try:
        with pytest.raises(mg.cuda.KernelError):
            module.waits_without_access[1, 32](np.zeros(64, "f"))
        assert_usable(module)
        signal.raise_signal(signal.SIGVTALRM)
        assert calls == [1]
    finally:
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.slow
def test_pauses_at_any_instruction_change_nothing(tmp_path, monkeypatch):
    """The launch pauses ten thousand times as often as usually."""
    headers = tmp_path / "headers"
    headers.mkdir()
    for path in compiler.EMULATOR_HEADERS.glob("*.h"):
        text = path.read_text().replace(
            "PAUSE_NANOSECONDS = 250'000'000", "PAUSE_NANOSECONDS = 20'000"
        )
        (headers / path.name).write_text(text)
    assert "= 20'000;" in (headers / "pause.h").read_text()
    for module in (emulator, compiler):
        monkeypatch.setattr(module, "EMULATOR_HEADERS", headers)
    monkeypatch.setenv("MINIGAN_CACHE", str(tmp_path / "cache"))
    kernels = SOURCE.with_name("tutorial_kernels.cu")
    x = np.arange(64 * 64, dtype="f").reshape(64, 64) % 17
    for build in ("fast", "checked"):
        module = mg.cuda.compile(SOURCE, build=build)
        y, partial = np.zeros(1, "f"), np.zeros(500, "f")
        flat = np.arange(32_000, dtype="f") % 7
        for _ in range(10):
            module.fence_reduction[500, 64](flat, partial, y, flat.size)
            assert y[0] == flat.sum()
            assert_usable(module)
        product = np.zeros((64, 64), "f")
        mg.cuda.compile(kernels, build=build).matmul_tiled[(4, 4), (16, 16)](
            x, x, product, *[64] * 3
        )
        assert np.array_equal(product, x @ x)
