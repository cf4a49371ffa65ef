"""Hand-written kernels, one folder per kernel family: arrays in, arrays out, no gradients.

A family holds `cpu.py` (numba) and `cuda.py` with `cuda.cu`, each with a table
`KERNELS = {op name: function}`, and a README. Most also hold `optimization_steps.py`: the versions
of one kernel from naive to fast, each measured. `runtime/` compiles and launches the kernels.
Nothing here knows of tensors or of derivatives.
"""
