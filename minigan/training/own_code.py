"""Load models, losses and data sets from files of the user's own, named FILE.py:NAME.

A file is run only where the user names it: in a command, or in a program. Its path in the config
of a run is no permission, as the run may come from elsewhere. The run keeps a copy of the source,
which is what `sample`, `evaluate` and `--resume` use later. They need no naming for a source that
this user has named before: that is remembered in the cache.
"""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from .. import data
from ..gan import losses, models
from ..kernels.runtime.files import atomic_write, cache_root
from ..utils.code_files import CodeError, is_code, read_source, run_source, split_code
from ..utils.notices import Notice
from ..utils.registry import Registry
from .run_folder import CODE, RunError, read_options
from .state import AnyConfig

# The options whose value may be code. Of a run, model and loss must be the same code as before;
# its data are compared by their digest.
REGISTRIES: dict[str, Registry] = {
    "model": models.register,
    "loss": losses.register,
    "data": data.register,
}

_sources: dict[tuple[str, str], bytes] = {}  # by option and value: the source that was loaded


def load_named_code(config: AnyConfig, named: Collection[str] = tuple(REGISTRIES)) -> AnyConfig:
    """Load the code that options of a config name; return the config with absolute paths.

    Args:
        config: the options.
        named: the options that the user has set here. The code of others is loaded only if the user
            has named the same source before.

    Raises:
        CodeError: a file is missing, raises an error, defines no such name, or was never named.
    """
    values = {option: getattr(config, option, None) for option in REGISTRIES}
    changes: dict[str, Any] = {
        k: load_code(k, str(x), k in named) for k, x in values.items() if is_code(x)
    }
    return dataclasses.replace(config, **changes)


def load_code(option: str, value: str, is_named: bool = True) -> str:
    """Load the code of one option, and return its value with an absolute path.

    Raises:
        CodeError: as in `load_named_code`.
    """
    path, name = split_code(value)
    source = read_source(path)
    if not is_named and not _was_named(source, name):
        raise CodeError(
            f"{option} = {value!r} is code, which is run only if you name it yourself: read it,"
            f" and then --{option} {value}"
        )
    _load(option, f"{path}:{name}", path, name, source)
    return f"{path}:{name}"


def load_code_of_run(
    folder: Path,
    named: Mapping[str, str | None] | None = None,
    options: Collection[str] = REGISTRIES,
) -> None:
    """Load the code of a run from the copies in its folder, if the user has ever named it.

    Args:
        folder: the run's folder.
        named: by option, FILE.py:NAME that the user names now; None: nothing.
        options: the options whose code is needed.

    Raises:
        RunError: code is missing, has changed, or was never named.
        CodeError: a file cannot be run.
    """
    values = read_options(folder)
    for option in options:
        text = (named or {}).get(option)
        value = values.get(option)
        if text is not None and not is_code(text):
            raise RunError(
                f"--{option} {text}: FILE.py:NAME is needed, which has the code of {folder}"
            )
        if value is not None and not isinstance(value, str):
            continue  # `Config` refuses it
        if is_code(value):
            _load_copy(folder, option, str(value), text)
        elif text is not None:
            _load_for_name(folder, option, value, text)
        elif option == "data" or value is None or value in REGISTRIES[option].table:
            continue
        else:
            raise RunError(
                f"{folder} has the {option} {value!r}, which a Python program registered; register"
                f" it before the run is loaded, or name its code: --{option} FILE.py:NAME"
            )


def save_code(folder: Path, config: AnyConfig) -> None:
    """Write copies of the code that a config names to the folder of its run."""
    for option in REGISTRIES:
        source = _sources.get((option, getattr(config, option, "")))
        if source is not None:
            path = _copy(folder, option)
            path.parent.mkdir(exist_ok=True)
            atomic_write(path, partial(_write, source))


def _write(source: bytes, file: BinaryIO) -> None:
    file.write(source)


def check_loaded(config: AnyConfig) -> None:
    """Raise CodeError where an option of a config names code that is not loaded."""
    for option, registry in REGISTRIES.items():
        value = getattr(config, option, None)
        if is_code(value) and value not in registry.table:
            raise CodeError(
                f"{option} = {value!r} is code that is not loaded: mg.train and `minigan train`"
                " load it; in a program a decorator, such as mg.models.register, needs no file"
            )


def _load(option: str, value: str, path: Path, name: str, source: bytes) -> None:
    """Run a source that the user has named, remember it, and enter what it calls `name`."""
    thing = run_source(path, source, name)
    try:
        REGISTRIES[option].table[value] = REGISTRIES[option].convert(name, thing)
    except TypeError as error:
        raise CodeError(f"{path}: {error}") from None
    _sources[option, value] = source
    _remember(source, name, path)


def _load_copy(folder: Path, option: str, value: str, text: str | None) -> None:
    """Load the code of a run whose option is FILE.py:NAME."""
    copy, (_, name) = _copy(folder, option), split_code(value)
    advice = f"--{option} {copy}:{name}"
    if text is None:
        if not copy.exists():
            raise RunError(
                f"{copy}, the code of this run's {option}, is gone; --{option} FILE.py:{name} names"
                " another copy"
            )
        source = read_source(copy)
        if not _was_named(source, name):
            raise RunError(
                f"{folder} has a {option} of its own, {copy}, and code is run only if you name it"
                f" yourself: read it, and then {advice}"
            )
        _load(option, value, copy, name, source)
        return
    path, text_name = split_code(text)
    source = read_source(path)
    if text_name != name:
        raise RunError(f"{folder} has the {option} {name}, not {text_name}: {advice}")
    if not copy.exists():
        warnings.warn(
            f"{copy} is gone; whether {path} is the code of this run is not known",
            Notice,
            stacklevel=4,
        )
    elif source != read_source(copy):
        raise RunError(
            f"{path} has changed since {folder} was trained; {copy} is what it was: {advice}"
        )
    _load(option, value, path, name, source)


def _load_for_name(folder: Path, option: str, value: Any, text: str) -> None:
    """Load code for the name under which a program registered it."""
    registry = REGISTRIES[option]
    if value is None or value in registry.built_in:
        raise RunError(f"--{option} {text}: {folder} has minigan's own {option}, {value}")
    path, name = split_code(text)
    _load(option, str(value), path, name, read_source(path))


def _copy(folder: Path, option: str) -> Path:
    return folder / CODE / f"{option}.py"


# ------------------------------------------------------------------------- what was named before
def _record(source: bytes, name: str) -> Path:
    """Return the path of the file whose existence says that the user has named this code."""
    digest = hashlib.sha256(source + b"\0" + name.encode()).hexdigest()
    return cache_root() / "named_code" / digest


def _was_named(source: bytes, name: str) -> bool:
    try:
        return _record(source, name).exists()
    except (OSError, RuntimeError):
        return False


def _remember(source: bytes, name: str, path: Path) -> None:
    """Remember that the user has named this code; without a cache it must be named again."""
    try:
        record = _record(source, name)
        if not record.exists():
            record.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(record, lambda file: file.write(f"{path}:{name}\n".encode()))
    except (OSError, RuntimeError):
        return
