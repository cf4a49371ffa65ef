"""Nothing for a GPU: a path is found by one scan after the other, and each waits for the last."""

KERNELS: dict[str, object] = {}
