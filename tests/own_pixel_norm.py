"""An op of a user's own program: normalize rows, with a numba and a CUDA kernel."""

import numpy as np

import minigan as mg
from minigan.ops.samples import uniform


def reference(x):  # the definition, in numpy
    return x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-8)


def vjp(g, y, x):  # how a gradient passes back, in ops
    size = ((x * x).mean(axis=1, keepdims=True) + 1e-8).sqrt()
    return (g - y * (g * y).mean(axis=1, keepdims=True)) / size


pixel_norm = mg.Op("pixel_norm", reference, (vjp,), samples=[(uniform(5, 33),)])


@pixel_norm.kernel("cpu")  # compiled by numba; threads share the rows begin to end
def fill(out, x, begin, end):
    for i in range(begin, end):
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += x[i, j] * x[i, j]
        scale = 1 / np.sqrt(total / x.dtype.type(x.shape[1]) + x.dtype.type(1e-8))
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * scale


@pixel_norm.kernel("cuda", "pixel_norm.cu")
def launch(cuda, y, x):
    rows, n = x.shape
    cuda.pixel_norm[rows, 128](y, x, n)  # pixel_norm<<<rows, 128>>>(y, x, n)
