"""Operations on tensors: each is a numpy reference with VJPs that consist of other ops.

The modules hold the ops by kind, and name in `__all__` those that are public as `mg.ops.*`. The
others are parts of VJPs. Functions check their arguments and call an `Op`; `Op.registry` lists all.
"""

# ruff: noqa: F403
from .activations import *
from .conv import *
from .cross_entropy import *
from .distance import *
from .dropout import *
from .elementwise import *
from .indexing import *
from .linear import *
from .max_pool import *
from .norm import *
from .pool import *
from .power import *
from .reduce import *
from .shape import *
