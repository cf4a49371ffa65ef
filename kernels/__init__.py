"""Hand-written kernels, one room (folder) per family: arrays in, arrays out, no gradients.

A room holds `cpu.py` (numba) with a table `KERNELS = {op name: function}`, and a README that
climbs from the naive kernel to the fast one. Nothing here knows of tensors or of derivatives.
"""
