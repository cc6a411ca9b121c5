"""Strict configs: a key that nothing would read is an error that names the nearest key that exists.

Top-level names that are none of mmengine's may be variables of the config's author (``img_size = 64``). They are
refused only if they look like a misspelt known name and no line of the config reads them; a leading ``_`` settles it.
From the command line (:func:`apply_cfg_options`) every key must exist or be one that its place can take.
"""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.registry import Registry

from mmselfsup_graft.errors import ConfigError

from .keys import known_top_level, role_of, section_of
from .run_values import check_values
from .types import wrong_value

# libraries whose classes take some of their keys in ways that this check cannot follow
_HARD_TO_SEE = ('mmdet', 'mmseg')


# names of other toolboxes for keys that have another one here
_ALSO_CALLED = {
    'base_lr': 'lr',
    'learning_rate': 'lr',
    'bs': 'batch_size',
    'workers': 'num_workers',
}


_LENGTHS = ('epochs', 'max_epochs', 'num_epochs')
# what helps with keys that no override sets as they are meant
_INSTEAD = {
    **dict.fromkeys(
        ('data_root', 'data_dir', 'data_path'),
        'no data set of this config reads a folder; take a config for folders (configs/*/*folder*)',
    ),
    **dict.fromkeys(_LENGTHS, 'give the option --epochs N, which the learning-rate schedule follows'),
}


class _Place(NamedTuple):
    """A value of a config with all that decides who reads it."""

    node: Any
    path: str
    key: str
    around: dict
    role: Registry | None
    scope: str

    def child(self, key: Any) -> '_Place':
        """Step to one key of a dict or one index of a list; the items of a list stand where the list stands."""
        path = f'{self.path}.{key}' if self.path else str(key)
        if isinstance(self.node, (list, tuple)):
            return self._replace(node=self.node[int(key)], path=path)
        scope = self.node.get('_scope_', self.scope)
        role = role_of(key, self.role, top_level=not self.path)
        return _Place(self.node[key], path, key, self.node, role, scope)


def check_config(cfg: Config) -> None:
    """Refuse a config that holds keys or types which nothing knows.

    Types are looked up as the runner will: in the scope ``cfg.default_scope``, or in a dict's own ``_scope_``.

    Raises:
        ConfigError: One line naming every such key with its nearest known neighbour; see also :func:`check_values`.
    """
    root = _root(cfg)
    problems = list(_misspelt_top_level(cfg))
    of_others = cfg.get('default_scope') in _HARD_TO_SEE
    for key in root.node:
        if key in known_top_level():
            problems += _problems(root.child(key), of_others)
    if problems:
        raise ConfigError('; '.join(problems))
    check_values(cfg)


def apply_cfg_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge ``{'a.b.c': value}`` into ``cfg``; nothing is changed if any key is refused.

    A changed ``type`` is respected: ``model.backbone.type=ResNet`` and ``model.backbone.depth=50`` may come together,
    in any order.

    Raises:
        ConfigError: A key neither exists nor is one that its place can take.
    """
    trial = Config(cfg.to_dict())
    for option in sorted(options, key=lambda name: not name.endswith('.type')):
        _check_option(trial, option)
        # one after the other: an option may reach into what an earlier one put there
        trial.merge_from_dict({option: options[option]})
    for option, value in options.items():
        cfg.merge_from_dict({option: value})


def _root(cfg: Config) -> _Place:
    return _Place(cfg.to_dict(), '', '', {}, None, cfg.get('default_scope') or 'mmengine')


def _check_option(cfg: Config, option: str) -> None:
    """Follow a dotted key as far as it exists and ask the section reached about the first part that is new."""
    place = root = _root(cfg)
    parts = option.split('.')
    if len(parts) > 1 and parts[0] not in place.node and parts[0] not in known_top_level():
        _check_new_key(place, parts[0], parts[0], option, root.node)
    if parts[0] in place.node and parts[0] not in known_top_level():
        raise ConfigError(
            f"'{option}' would change nothing: '{parts[0]}' is a variable of the config file, which was read before"
            f'{_meant(place.node, parts)}'
        )
    for number, part in enumerate(parts):
        where = f'{place.path}.{part}' if place.path else part
        if isinstance(place.node, dict):
            if part not in place.node:
                if number + 1 < len(parts) and parts[number + 1].isdigit():
                    raise ConfigError(f"unknown key '{option}' ('{where}' is not set, so it has no items)")
                _check_new_key(place, part, where, option, root.node)
                return
        elif not isinstance(place.node, (list, tuple)):
            raise ConfigError(f"unknown key '{where}' ('{place.path}' is {place.node!r}, not a section with keys)")
        elif not part.isdigit() or int(part) >= len(place.node):
            raise ConfigError(f"unknown key '{where}' ('{place.path}' is a list of {len(place.node)} items)")
        place = place.child(part)


def _meant(config: dict, parts: list[str]) -> str:
    places = _places(config, parts)
    return f'; set {" or ".join(repr(place) for place in places[:3])} instead' if places else ''


def _places(config: dict, parts: list[str]) -> list[str]:
    """Full paths that an option at top level may have meant: the same value as the variable, or the same last name."""
    rest, value = ''.join(f'.{part}' for part in parts[1:]), config.get(parts[0])
    entries = [entry for name in config if name in known_top_level() for entry in _entries(config[name], name)]
    same = [f'{path}{rest}' for path, each in entries if isinstance(value, dict | list) and value and each == value]
    return same or [path for path, _ in entries if path.rpartition('.')[2] in (parts[-1], _ALSO_CALLED.get(parts[-1]))]


def _entries(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything below a value of the config, and of itself."""
    yield path, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for key, value in items:
        yield from _entries(value, f'{path}.{key}')


def _check_new_key(place: _Place, part: str, where: str, option: str, config: dict) -> None:
    if not place.path:
        if part not in known_top_level():
            meant = _meant(place.node, option.split('.')) if part not in _LENGTHS else ''
            if not meant and option in _INSTEAD:
                raise ConfigError(f"unknown key '{option}': {_INSTEAD[option]}")
            known = {*known_top_level(), *place.node}
            raise ConfigError(f"unknown key '{option}'{meant}" if meant else _unknown(where, 'a config', known))
        return
    owner, keys, _ = section_of(place.node, place.key, place.around, place.role, place.scope)
    if owner is None:
        raise ConfigError(_unknown(where, f"'{place.path}'", place.node))
    if keys is not None and part not in keys:
        meant = '' if get_close_matches(part, keys, n=1, cutoff=0.6) else _meant(config, [part])
        said = f"unknown key '{where}' ({owner} has no such option{meant})"
        raise ConfigError(said if meant else _unknown(where, owner, keys))


def _misspelt_top_level(cfg: Config) -> Iterator[str]:
    for key in cfg:
        if key.startswith('_') or key in known_top_level() or key.endswith('pipeline') or _is_read(key, cfg.text or ''):
            continue
        if get_close_matches(key, known_top_level(), n=1, cutoff=0.85):
            yield _unknown(key, 'a config', known_top_level())


def _is_read(name: str, text: str) -> bool:
    """Whether the text of a config, its bases included, uses a name other than as the target of ``name = ...``."""
    return re.search(rf'\b{re.escape(name)}\b(?!\s*=[^=])', text) is not None


def _problems(place: _Place, of_others: bool) -> Iterator[str]:
    """Yield what is wrong in a value of the config and in everything below it.

    ``of_others``: a detector's or segmentor's config. There only what looks like a slip of the pen is refused, and the
    library itself answers for the rest.
    """
    if isinstance(place.node, (list, tuple)):
        for index in range(len(place.node)):
            yield from _problems(place.child(index), of_others)
    if not isinstance(place.node, dict):
        return
    try:
        owner, keys, target = section_of(place.node, place.key, place.around, place.role, place.scope)
    except ConfigError as error:
        if not of_others or 'did you mean' in str(error):
            yield f"'{place.path}.type': {error}"
        return
    for key in place.node:
        if keys is None or key in keys:
            expected = wrong_value(target, key, place.node[key]) if target is not None else None
            if expected:
                yield f"'{place.path}.{key}' is {place.node[key]!r}, but {owner} takes {expected}"
            yield from _problems(place.child(key), of_others)
        elif not of_others or get_close_matches(key, keys, n=1, cutoff=0.9):
            yield _unknown(f'{place.path}.{key}', owner or place.key, keys)


def _unknown(where: str, owner: str, known: Iterable[str]) -> str:
    names = sorted(name for name in map(str, known) if not name.startswith('_'))
    near = get_close_matches(where.rpartition('.')[2], names, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else f'it has: {", ".join(names)}'
    return f"unknown key '{where}' ({owner} has no such option; {hint})"
