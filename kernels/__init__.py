"""Hand-written kernels of arrays, one folder per kernel family.

A family holds `cpu.py` (numba) and `cuda.py` with `cuda.cu`, each with a table
`KERNELS = {op name: function}`, and a README. Most also hold `optimization_steps.py`: the versions
of one kernel from naive to fast, with measurements. `runtime/` compiles and launches the kernels.
Kernels do not depend on tensors or derivatives.
"""
