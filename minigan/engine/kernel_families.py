"""Find the kernel families: each folder of `kernels/` but `runtime` is one; no list names them."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from ..kernels import __name__ as PACKAGE
from ..kernels import __path__ as FOLDERS


def family_modules(backend: str) -> Iterator[ModuleType]:
    """Import and yield the module `backend` ("cpu" or "cuda") of each kernel family that has one.

    Such a module may have a table `KERNELS`, of functions by the name of their op or update.
    """
    for family in pkgutil.iter_modules(FOLDERS, f"{PACKAGE}."):
        name = f"{family.name}.{backend}"
        if family.ispkg and not family.name.endswith(".runtime") and importlib.util.find_spec(name):
            yield importlib.import_module(name)
