"""Operations on tensors: each is a numpy reference with VJPs that consist of other ops.

The modules hold the ops by kind, and name in `__all__` those that are public as `mg.ops.*`. The
others are parts of VJPs. Functions check their arguments and call an `Op`; `Op.registry` lists all.
"""

# ruff: noqa: F403, F405
from .activations import *
from .advanced_indexing import *
from .conv import *
from .cross_entropy import *
from .distance import *
from .dropout import *
from .elementwise import *
from .indexing import *
from .joining import *
from .linear import *
from .logic import *
from .max_pool import *
from .norm import *
from .pool import *
from .power import *
from .reduce import *
from .resampled_conv import *
from .shape import *
from .statistics import *

__all__ = [
    "abs",
    "add",
    "all",
    "any",
    "argmax",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "broadcast_to",
    "cast",
    "clip",
    "concatenate",
    "conv2d",
    "conv2d_avg_pool",
    "conv_transpose2d",
    "dense",
    "depth_to_space",
    "divide",
    "dropout",
    "elementwise_op",
    "equal",
    "exp",
    "flatten",
    "gather",
    "gelu",
    "greater",
    "greater_equal",
    "group_norm",
    "index",
    "l1_distances",
    "layer_norm",
    "leaky_relu",
    "less",
    "less_equal",
    "log",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "negative",
    "norm",
    "not_equal",
    "pad",
    "power",
    "relu",
    "reshape",
    "scatter_add",
    "sigmoid",
    "sign",
    "silu",
    "slice",
    "softmax",
    "softplus",
    "space_to_depth",
    "sqrt",
    "squeeze",
    "stack",
    "std",
    "subtract",
    "sum",
    "sum_to",
    "tanh",
    "transpose",
    "upsample_conv2d",
    "upsample_nearest",
    "var",
    "where",
]
