"""The precision in which the CUDA kernels multiply float32 matrices, in this thread or task."""

from __future__ import annotations

from contextvars import ContextVar

# What the operands of a product are rounded to; sums are in float32.
PRECISIONS = ("float32", "tf32")
# A context variable has a value of its own in each Python thread and asyncio task.
current: ContextVar[str] = ContextVar("matmul_precision", default=PRECISIONS[0])
