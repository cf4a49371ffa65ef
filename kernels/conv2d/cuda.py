"""To come."""

KERNELS: dict = {}
