"""`minigan bench conv`: convolutions of GANs, each of their three faces, beside PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..engine.device import get_device
from ..engine.op import Op
from . import floor
from .kernels import replayed
from .plan import Convolution, Plan
from .steps import Peers
from .table import cells, number, render
from .timing import Call, Group, geometric_mean, ratio

OWN = "minigan"
PEERS = ("PyTorch", "PyTorch, NHWC")  # with arrays in minigan's order, and with channels last
MODULE = "pytorch_conv"  # of `bench.peers`
FACES = ("forward", "input gradient", "weight gradient")
Case = Mapping[str, Any]


def groups(plan: Plan, peers: Peers, threads: int) -> list[Group]:
    """One group per convolution. minigan's are replayed as in a captured step."""
    rate = floor.fma_rate(threads)
    return [_group(conv, peers, plan.conv_seconds, rate) for conv in plan.convolutions]


def _group(conv: Convolution, peers: Peers, seconds: float, rate: float) -> Group:
    work = {"flops": 2 * multiply_adds(conv), "flops_per_second": rate}
    what = {"layer": label(conv), "batch": conv.batch}
    cases = [{**what, "face": face, **work} for face in FACES]
    x, w, g = operands(conv)
    calls = {OWN: [replayed(call) for call in own_calls(conv, x, w, g)]}
    if MODULE in peers:
        calls |= peers[MODULE].calls(x, w, g, conv.stride, conv.padding)
    return Group(cases, calls, seconds)


def label(conv: Convolution) -> str:
    """1-64 4x4/2, 28x28: channels, kernel, stride, pixels that it is given."""
    kernel, edge = (f"{n}x{n}" for n in (conv.kernel, conv.edge))
    return f"{conv.inputs}-{conv.outputs} {kernel}/{conv.stride}, {edge}"


def multiply_adds(conv: Convolution) -> int:
    """Of each face: all weights at each pixel of the result."""
    weights = conv.inputs * conv.outputs * conv.kernel**2
    return conv.batch * weights * conv.result**2


def operands(conv: Convolution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images, weights, a gradient of the result)"""
    shapes = (
        (conv.batch, conv.inputs, conv.edge, conv.edge),
        (conv.outputs, conv.inputs, conv.kernel, conv.kernel),
        (conv.batch, conv.outputs, conv.result, conv.result),
    )
    x, w, g = (np.random.default_rng(0).standard_normal(shape, np.float32) for shape in shapes)
    return x, w, g


def own_calls(conv: Convolution, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> Iterator[Call]:
    """minigan's, in the order of FACES."""
    places = {"stride": (conv.stride,) * 2, "padding": (conv.padding,) * 2}
    for name, pair, more in (
        ("conv2d", (x, w), {}),
        ("conv2d_input_grad", (g, w), {"size": x.shape[2:]}),
        ("conv2d_weight_grad", (x, g), {"kernel": w.shape[2:]}),
    ):
        yield partial(get_device("cpu").run, Op.registry[name], pair, {**places, **more})


# ------------------------------------------------------------------------------------------ report
def gflops(case: Case, contender: str) -> float:
    """10^9 additions and multiplications per second, the median."""
    return 1e-9 * case["flops"] / float(np.median(case["seconds"][contender]))


def report(cases: Sequence[Case]) -> str:
    """A table, and the ratios' means by face, from what `measure` gave."""
    rounds, rate = len(cases[0]["seconds"][OWN]), 1e-9 * cases[0]["flops_per_second"]
    title = (
        "conv: convolutions of GANs, channels, kernel/stride, pixels; float32, GFLOP/s\n"
        "the gradients' as many multiply-adds as forward's, zeros around the images included\n"
        "minigan's as in a captured step, PyTorch's (oneDNN) called from Python, with its arrays"
        " in minigan's\norder, and with channels last (NHWC);"
        f" medians of {rounds} rounds, of ratios the quartiles too\n"
        "ratio = minigan / the faster of the two, higher is better\n"
        f"of peak = minigan's / {number(rate)} GFLOP/s, fused multiply-adds as measured here"
    )
    heads = ["layer", "batch", "face", OWN, "of peak", "PyTorch", "NHWC"]
    rows = [_row(case, i % len(FACES) == 0) for i, case in enumerate(cases)]
    table = render([*heads, "ratio", "25..75 %"], rows, left=3)
    return "\n".join([f"{title}\n\n{table}", *_means(cases)])


def _row(case: Case, first: bool) -> list[str]:
    speed = gflops(case, OWN)
    share = f"{1e9 * speed / case['flops_per_second']:.0%}"
    start = [case["layer"], str(case["batch"])] if first else ["", ""]
    row = [*start, case["face"], number(speed), share]
    if not beside(case):
        return [*row, "not installed", "", "", ""]
    speeds = (number(gflops(case, name)) for name in PEERS)
    return [*row, *speeds, *cells(ratio(case, beside(case)))]


def beside(case: Case) -> str:
    """The peer that is the faster in this case; none: ""."""
    found = [name for name in PEERS if name in case["seconds"]]
    return max(found, key=lambda name: gflops(case, name), default="")


def _means(cases: Sequence[Case]) -> Iterator[str]:
    """Nothing where there is no peer."""
    for face in FACES:
        chosen = [x for x in cases if x["face"] == face and beside(x)]
        if chosen:
            ratios = [ratio(case, beside(case)).median for case in chosen]
            least = chosen[int(np.argmin(ratios))]
            yield (
                f"{face}: ratio, geometric mean {number(geometric_mean(ratios))},"
                f" minimum {number(min(ratios))} ({least['layer']}, batch {least['batch']})"
            )
