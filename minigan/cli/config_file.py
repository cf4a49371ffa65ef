"""Read the options of a training from a file: `minigan train --config FILE`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..kernels.runtime.files import read_bounded
from ..training.config import SHORTHANDS, Config
from ..training.options import Option, options
from ..training.run_folder import MAX_CONFIG_BYTES
from ..utils import strict_json
from ..utils.names import choose


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the options that a file sets, by the names of the fields of Config.

    The file is YAML, or JSON with the suffix .json, as the config.json of a run; `lr-d` and `lr_d`
    are the same option. A list stands for its elements joined by commas (those of penalties by +).

    Raises:
        ValueError: the file cannot be read, or it has an unknown option, or an option twice.
    """
    try:
        content = read_bounded(path, MAX_CONFIG_BYTES)
        values = _parse(path, content)
    except FileNotFoundError:
        raise ValueError(f"--config {path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"--config {path} cannot be read: {error}") from None
    if not isinstance(values, Mapping):
        raise ValueError(f"--config {path} holds {type(values).__name__}, not options by name")
    declared = options(Config)
    shorthands = {shorthand.name: shorthand.fields for shorthand in SHORTHANDS}
    names = dict.fromkeys([*declared, *shorthands])
    result: dict[str, Any] = {}
    direct: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        try:
            choose("option", name, names)
        except ValueError as error:
            raise ValueError(f"--config {path}: {error}") from None
        if name in direct:
            raise ValueError(f"--config {path}: {name} is set twice")
        direct[name] = value
        for field in shorthands.get(name, ()):
            result[field] = _convert(declared[field], value)
    direct = {n: _convert(declared[n], x) for n, x in direct.items() if n in declared}
    return result | direct  # An option for one field wins over a shorthand for several.


def _parse(path: Path, content: bytes) -> Any:
    """Return the value that the file holds; ValueError where it is not JSON or YAML."""
    if path.suffix.lower() == ".json":
        return strict_json.loads(content)
    import yaml

    class Loader(yaml.SafeLoader):
        """A loader that refuses a key that occurs twice; PyYAML's takes the last one."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise ValueError(f"the name {key!r} occurs twice")
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(content, Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return {} if values is None else values


def _convert(option: Option, value: Any) -> Any:
    """Convert a value to the type of its option, where YAML reads it as another type.

    YAML 1.1 takes 2e-4 for text, as it has no decimal point.
    """
    if isinstance(value, list) and option.type is str:
        return (option.separator or ",").join(map(str, value))
    if isinstance(value, str) and option.type in (int, float):
        try:
            return option.type(value)
        except ValueError:
            return value  # which `Config` refuses by name
    if isinstance(value, int) and not isinstance(value, bool) and option.type is str:
        return json.dumps(value)  # sample_shape: 784
    return value
