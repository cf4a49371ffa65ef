"""numba kernels on the CPU: compile, launch, run on several threads, record and replay."""
