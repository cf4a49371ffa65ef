"""Compile numba kernels, launch them, share launches out among threads, and replay them."""
