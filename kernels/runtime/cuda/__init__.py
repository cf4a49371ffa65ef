"""Compile CUDA C++ kernels and launch them on a GPU."""
