"""`minigan bench conv`: the convolutions of GANs and their gradients, beside PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from ..engine.device import get_device
from ..engine.op import Op
from . import lower_bound
from .kernels import replayed
from .plan import Convolution, Plan
from .steps import Peers
from .table import format_number, format_quartiles, format_table
from .timing import MINIGAN, Call, Case, Group, geometric_mean, median_seconds, ratio

PEERS = ("PyTorch", "PyTorch, NHWC")  # with arrays in minigan's order, and with channels last
MODULE = "pytorch_conv"  # of `bench.peers`
OPERATIONS = ("forward", "input gradient", "weight gradient")


def groups(plan: Plan, peers: Peers, threads: int) -> list[Group]:
    """Return one group per convolution; minigan's calls are replayed as in a captured step."""
    peak = lower_bound.fma_rate(threads)
    return [_group(conv, peers, plan.conv_seconds, peak) for conv in plan.convolutions]


def _group(conv: Convolution, peers: Peers, seconds: float, peak: float) -> Group:
    work = {"flops": 2 * multiply_adds(conv), "flops_per_second": peak}
    layer = {"layer": label(conv), "batch": conv.batch}
    cases = [{**layer, "operation": operation, **work} for operation in OPERATIONS]
    x, w, g = operands(conv)
    calls = {MINIGAN: [replayed(call) for call in minigan_calls(conv, x, w, g)]}
    if MODULE in peers:
        calls |= peers[MODULE].calls(x, w, g, conv.stride, conv.padding)
    return Group(cases, calls, seconds)


def label(conv: Convolution) -> str:
    """Return channels, kernel, stride and input pixels, as in "1-64 4x4/2, 28x28"."""
    kernel, pixels = (f"{n}x{n}" for n in (conv.kernel, conv.edge))
    return f"{conv.in_channels}-{conv.out_channels} {kernel}/{conv.stride}, {pixels}"


def multiply_adds(conv: Convolution) -> int:
    """Return the multiply-adds of each operation: all weights at each pixel of the output."""
    weights = conv.in_channels * conv.out_channels * conv.kernel**2
    return conv.batch * weights * conv.output_edge**2


def operands(conv: Convolution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (images, weights, cotangent of the output)."""
    shapes = (
        (conv.batch, conv.in_channels, conv.edge, conv.edge),
        (conv.out_channels, conv.in_channels, conv.kernel, conv.kernel),
        (conv.batch, conv.out_channels, conv.output_edge, conv.output_edge),
    )
    x, w, g = (np.random.default_rng(0).standard_normal(shape, np.float32) for shape in shapes)
    return x, w, g


def minigan_calls(conv: Convolution, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> Iterator[Call]:
    """Yield minigan's call of each operation, in the order of OPERATIONS."""
    geometry = {"stride": (conv.stride,) * 2, "padding": (conv.padding,) * 2}
    for name, arrays, extra in (
        ("conv2d", (x, w), {}),
        ("conv2d_input_grad", (g, w), {"size": x.shape[2:]}),
        ("conv2d_weight_grad", (x, g), {"kernel": w.shape[2:]}),
    ):
        yield partial(get_device("cpu").run, Op.registry[name], arrays, {**geometry, **extra})


# ------------------------------------------------------------------------------------------ report
def gflops(case: Case, contender: str) -> float:
    """Return the median speed in 10^9 additions and multiplications per second."""
    return 1e-9 * case["flops"] / median_seconds(case, contender)


def report(cases: Sequence[Case]) -> str:
    """Return a table, and the means of the ratios by operation."""
    rounds, peak = len(cases[0]["seconds"][MINIGAN]), 1e-9 * cases[0]["flops_per_second"]
    title = (
        "conv: convolutions of GANs, channels, kernel/stride, pixels; float32, GFLOP/s\n"
        "each operation counts as many multiply-adds as forward, padding included\n"
        "minigan's as in a captured step, PyTorch's (oneDNN) called from Python, with its arrays"
        " in minigan's\norder, and with channels last (NHWC);"
        f" medians of {rounds} rounds, of ratios the quartiles too\n"
        "ratio = minigan / the faster of the two, higher is better\n"
        f"of peak = minigan's / {format_number(peak)} GFLOP/s, fused multiply-adds as measured here"
    )
    heads = ["layer", "batch", "operation", MINIGAN, "of peak", "PyTorch", "NHWC"]
    rows = [_row(case, i % len(OPERATIONS) == 0) for i, case in enumerate(cases)]
    table = format_table([*heads, "ratio", "25..75 %"], rows, left=3)
    return "\n".join([f"{title}\n\n{table}", *_means(cases)])


def _row(case: Case, is_first: bool) -> list[str]:
    speed = gflops(case, MINIGAN)
    percent = f"{1e9 * speed / case['flops_per_second']:.0%}"
    labels = [case["layer"], str(case["batch"])] if is_first else ["", ""]
    row = [*labels, case["operation"], format_number(speed), percent]
    peer = fastest_peer(case)
    if peer is None:
        return [*row, "not installed", "", "", ""]
    speeds = (format_number(gflops(case, name)) for name in PEERS)
    return [*row, *speeds, *format_quartiles(ratio(case, peer))]


def fastest_peer(case: Case) -> str | None:
    """Return the peer that is fastest in this case, or None if there is none."""
    peers = [name for name in PEERS if name in case["seconds"]]
    return max(peers, key=lambda name: gflops(case, name), default=None)


def _means(cases: Sequence[Case]) -> Iterator[str]:
    """Yield a line for each operation that was measured beside a peer."""
    for operation in OPERATIONS:
        ratios = [
            (ratio(case, peer).median, case)
            for case in cases
            if case["operation"] == operation and (peer := fastest_peer(case)) is not None
        ]
        if ratios:
            minimum, slowest = min(ratios, key=lambda pair: pair[0])
            mean = geometric_mean([value for value, _ in ratios])
            yield (
                f"{operation}: ratio, geometric mean {format_number(mean)},"
                f" minimum {format_number(minimum)} ({slowest['layer']}, batch {slowest['batch']})"
            )
