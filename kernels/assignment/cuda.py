"""No CUDA kernels: in the assignment problem each step of a shortest path needs the one before."""

KERNELS: dict[str, object] = {}
