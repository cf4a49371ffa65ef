"""Every operation on tensors: what it means in numpy, and its VJPs in terms of the others.

Functions here check their arguments and call an `Op`; ops are listed in `Op.registry`.
"""

# Some ops carry the names that numpy and Python gave them: abs, max, slice, sum.
from .conv import conv2d, conv_transpose2d
from .distance import l1_distances
from .dropout import dropout
from .elementwise import (
    abs,
    add,
    cast,
    clip,
    cross_entropy,
    divide,
    equal,
    exp,
    greater,
    greater_equal,
    leaky_relu,
    less,
    less_equal,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    relu,
    sigmoid,
    sign,
    softplus,
    sqrt,
    subtract,
    tanh,
    where,
)
from .linear import dense, matmul
from .norm import batch_norm, group_norm, layer_norm
from .pool import avg_pool2d, depth_to_space, space_to_depth, upsample_nearest
from .reduce import log_softmax, max, mean, sum
from .shape import (
    broadcast_to,
    concatenate,
    gather,
    pad,
    reshape,
    scatter_add,
    slice,
    sum_to,
    transpose,
)
