"""The file and line that each value of a config comes from, through all ``_base_`` files."""

import ast
import os
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict

from mmselfsup_graft.errors import ConfigError

_BASE, _DELETE = '_base_', '_delete_'
_PLACEHOLDER = re.compile(r'\{\{[^{}]*\}\}')
COMMAND_LINE = 'command line'

Key = tuple[str, ...]


class Origin(NamedTuple):
    """Where a value is set: a file and the line in it (0 if unknown), or the command line."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f'{self.file}:{self.line}' if self.line else self.file


def origins_of(path: str | os.PathLike, options: Mapping[str, Any] | None = None) -> dict[Key, Origin]:
    """The origin of every value of a config file, in mmengine's order of merging.

    Args:
        path: Config file (text form, with ``_base_``).
        options: Overrides by dotted key, whose origin is the command line.

    Returns:
        Keys from the top to a value that is not a dict -> origin. A list is one value: a file replaces it as a whole.

    Raises:
        ConfigError: If the file, or one it inherits from, cannot be read.
    """
    try:
        found = _of_file(str(path))
    except (OSError, SyntaxError, NameError, KeyError, TypeError, AttributeError, ImportError, ValueError) as error:
        raise ConfigError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error
    for name in options or {}:
        _mark(found, tuple(name.split('.')))
    return found


def leaves(value: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """All values of nested dicts that are not dicts themselves, and empty dicts, with their keys."""
    if not isinstance(value, Mapping) or (not value and key):
        yield key, value
        return
    for name, each in value.items():
        yield from leaves(each, (*key, str(name)))


def _of_file(path: str) -> dict[Key, Origin]:
    tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    origins: dict[Key, Origin] = {}
    inherited = ConfigDict()
    for base in Config._get_base_files(path):
        file, _ = Config._get_cfg_path(base, path)
        origins.update(_of_file(str(file)))
        inherited.update(Config.fromfile(str(file))._cfg_dict)
    own = _own_values(path, tree, inherited)
    lines = _Lines(tree)
    for key in _deleted(own):
        origins = {each: origin for each, origin in origins.items() if each[: len(key)] != key}
    file = os.path.relpath(path) if not os.path.relpath(path).startswith('..') else path
    for key, value in leaves(_without_marks(own)):
        below = [each for each in origins if each[: len(key)] == key]
        if below and isinstance(value, Mapping):
            continue  # an empty dict changes nothing
        for each in [*below, *(key[:length] for length in range(1, len(key)))]:
            origins.pop(each, None)
        origins[key] = Origin(file, lines.of(key))
    return origins


def _own_values(path: str, tree: ast.Module, inherited: ConfigDict) -> dict[str, Any]:
    """The values that a file sets itself, evaluated as mmengine does."""
    if _PLACEHOLDER.search(Path(path).read_text(encoding='utf-8')):
        tree = ast.parse(_PLACEHOLDER.sub('None', Path(path).read_text(encoding='utf-8')))
    tree.body = [each for each in tree.body if not (isinstance(each, ast.Assign) and _target(each) == _BASE)]
    names: dict[str, Any] = {_BASE: inherited, '__file__': path}
    # configs are Python, which reading them runs
    exec(compile(tree, path, 'exec'), names)  # nosec B102 # see above
    skipped = types.FunctionType | types.ModuleType | type
    return {
        name: value
        for name, value in names.items()
        if name != _BASE and not name.startswith('__') and not isinstance(value, skipped)
    }


def _deleted(value: Any, key: Key = ()) -> Iterator[Key]:
    """Keys of the dicts that replace what is inherited (``_delete_=True``)."""
    if isinstance(value, Mapping):
        if value.get(_DELETE):
            yield key
        for name, each in value.items():
            yield from _deleted(each, (*key, str(name)))


def _without_marks(value: Any) -> Any:
    """Nested dicts without ``_delete_``."""
    if not isinstance(value, Mapping):
        return value
    return {name: _without_marks(each) for name, each in value.items() if name != _DELETE}


def _mark(origins: dict[Key, Origin], key: Key) -> None:
    """Set the origin of an override: of the value it names, is inside of, or adds."""
    touched = [each for each in origins if each[: len(key)] == key or key[: len(each)] == each]
    for each in touched or [key]:
        origins[each] = Origin(COMMAND_LINE)


def _target(node: ast.Assign) -> str:
    return node.targets[0].id if isinstance(node.targets[0], ast.Name) else ''


class _Lines:
    """Lines of a file by key: of the deepest part of the key that is written out."""

    def __init__(self, tree: ast.Module) -> None:
        self._assigned = {_target(node): node for node in tree.body if isinstance(node, ast.Assign)}

    def of(self, key: Key) -> int:
        """The line that sets a value."""
        node: Any = self._assigned.get(key[0])
        if node is None:
            return 0
        line, value = node.lineno, node.value
        for name in key[1:]:
            value = self._inside(value, name)
            if value is None:
                return line
            line = value.lineno
        return line

    def _inside(self, node: Any, name: str) -> Any:
        """The node of a key in ``dict(...)``, ``{...}`` or a name of such a dict; None if it is not written out."""
        if isinstance(node, ast.Name) and node.id in self._assigned:
            return self._inside(self._assigned[node.id].value, name)
        pairs: list[tuple[Any, Any]] = []
        if isinstance(node, ast.Call):
            pairs = [(each.arg, each.value) for each in node.keywords]
        elif isinstance(node, ast.Dict):
            pairs = [(getattr(each, 'value', None), value) for each, value in zip(node.keys, node.values)]
        for found, value in pairs:
            if found == name:
                return value
        nested = [value for found, value in pairs if found is None]
        return next((inner for value in nested if (inner := self._inside(value, name)) is not None), None)
