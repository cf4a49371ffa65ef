"""The published properties of GPUs, from which `minigan bench --device-code` predicts times."""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
SCHEDULERS = 4  # of a multiprocessor, each of which issues at most one instruction a cycle
REGISTERS = 65536  # of a multiprocessor; a warp takes them in units of 256
REGISTER_UNIT, SHARED_UNIT = 256, 128
KIB = 1024


@dataclass(frozen=True)
class Limits:
    """What a multiprocessor of a compute capability holds.

    Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability";
    `float_lanes` from its table of the throughput of arithmetic instructions. From 8.0 on the
    system reserves 1 KiB of shared memory for each block.
    """

    warps: int
    blocks: int
    shared_bytes: int
    float_lanes: int
    reserved_bytes: int = KIB


LIMITS = {
    "7.5": Limits(32, 16, 64 * KIB, 64, reserved_bytes=0),
    "8.0": Limits(64, 32, 164 * KIB, 64),
    "8.9": Limits(48, 24, 100 * KIB, 128),
    "9.0": Limits(64, 32, 228 * KIB, 128),
    "10.0": Limits(64, 32, 228 * KIB, 128),
    "12.0": Limits(48, 24, 100 * KIB, 128),
}


@dataclass(frozen=True)
class Gpu:
    """A GPU: multiprocessors, boost clock in Hz, byte/s of its memory and of its L2 cache.

    `driver_name` is what the driver calls it: variants of other names have other numbers.
    """

    driver_name: str
    capability: str
    multiprocessors: int
    clock: float
    memory: float
    l2: float | None
    source: str

    @property
    def flops(self) -> float:
        """The peak in float32, FLOP/s; a multiply-add is two."""
        return 2 * LIMITS[self.capability].float_lanes * self.multiprocessors * self.clock


# The L2 cache of A100 and H100 delivers 5,120 bytes a cycle (Table 3 of doi
# 10.1016/j.ultsonch.2023.106546, whose byte/s are these at the clock that it gives). The same is
# assumed for the H200.
L2_BYTES_PER_CYCLE = 5120
GPUS = {
    "A100": Gpu(
        "NVIDIA A100-SXM4-40GB",
        "8.0",
        108,
        1.41e9,
        1555e9,
        L2_BYTES_PER_CYCLE * 1.41e9,
        "NVIDIA A100 data sheet, SXM 40 GB",
    ),
    "RTX 4090": Gpu(
        "NVIDIA GeForce RTX 4090",
        "8.9",
        128,
        2.52e9,
        1008e9,
        None,
        "NVIDIA Ada GPU Architecture, appendix A",
    ),
    "H100": Gpu(
        "NVIDIA H100 80GB HBM3",
        "9.0",
        132,
        1.98e9,
        3352e9,
        L2_BYTES_PER_CYCLE * 1.98e9,
        "NVIDIA H100 data sheet, SXM",
    ),
    "H200": Gpu(
        "NVIDIA H200",
        "9.0",
        132,
        1.98e9,
        4800e9,
        L2_BYTES_PER_CYCLE * 1.98e9,
        "NVIDIA H200 data sheet",
    ),
}
# Cycles from a load to its value, from global memory and from the L2 cache: Table 3 of doi
# 10.1016/j.ultsonch.2023.106546, for A100 and H100. The same is assumed for the others.
LATENCY, L2_LATENCY = 400, 200


def resident_blocks(capability: str, threads: int, registers: int, shared_bytes: int) -> int:
    """Return how many blocks of a kernel a multiprocessor holds at a time.

    Args:
        threads: per block.
        registers: per thread.
        shared_bytes: per block.
    """
    limits = LIMITS[capability]
    warps = _ceil(threads, WARP) // WARP
    warp_registers = _ceil(registers * WARP, REGISTER_UNIT)
    # Each scheduler has a quarter of the registers for its warps.
    fitting = SCHEDULERS * (REGISTERS // SCHEDULERS // warp_registers)
    bounds = [limits.blocks, limits.warps // warps, fitting // warps]
    if shared_bytes:
        size = _ceil(shared_bytes + limits.reserved_bytes, SHARED_UNIT)
        bounds.append(limits.shared_bytes // size)
    return min(bounds)


def _ceil(count: int, unit: int) -> int:
    return -(-count // unit) * unit
