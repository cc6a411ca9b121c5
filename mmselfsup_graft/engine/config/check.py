"""Strict configs: a key that nothing would read is an error that names the nearest key that exists.

Top-level names that nothing reads may be variables of the config's author (``img_size = 64``). They are refused if
they look like a misspelled known name, unless the value under that name is made of theirs; a leading ``_`` settles it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.utils.suggestions import nearest

from .known_keys import TOP_LEVEL, Place, root_of
from .run_values import check_values
from .value_ranges import wrong_value

# names of other toolboxes for keys that have another one here
_ALSO_CALLED = {'base_lr': 'lr', 'learning_rate': 'lr', 'bs': 'batch_size', 'workers': 'num_workers'}
_LENGTHS = ('epochs', 'max_epochs', 'num_epochs')
_INSTEAD = {  # what helps with keys that no override sets as they are meant
    **dict.fromkeys(_LENGTHS, 'give the option --epochs N, which the learning-rate schedule follows'),
    **dict.fromkeys(
        ('data_root', 'data_dir', 'data_path'),
        'give the option --data-root DIR, which moves all data sets of a config',
    ),
}


def check_config(cfg: Config) -> None:
    """Refuse a config that holds keys or types which nothing knows, or values that their keys cannot take.

    Types are looked up as the runner will: in the scope ``cfg.default_scope``, or in a dict's own ``_scope_``.

    Raises:
        ConfigError: One line naming every such key with its nearest known neighbor; see also :func:`check_values`.
    """
    problems = [problem for place in root_of(cfg).below() for problem in _problems(place)]
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
    if 'launcher' in options:
        raise ConfigError("'launcher' would change nothing here: give --launcher")
    trial = Config(cfg.to_dict())
    for option in sorted(options, key=lambda name: not name.endswith('.type')):
        _check_option(root_of(trial), option)
        # one after the other: an option may reach into what an earlier one put there
        trial.merge_from_dict({option: options[option]})
    for option, value in options.items():
        cfg.merge_from_dict({option: value})


def _problems(place: Place) -> Iterator[str]:
    if not isinstance(place.node, dict):
        return
    try:
        section = place.section()
    except ConfigError as error:
        is_rule = place.key == 'paramwise_cfg'  # read by the type under the key `constructor`
        where = place.path.replace('.paramwise_cfg', '.constructor') if is_rule else f'{place.path}.type'
        yield f"'{where}': {error}"
        return
    for key, value in place.node.items():
        if section.refuses(key):
            if place.path or not _is_variable(place, key):
                yield _unknown(f'{place.path}.{key}'.lstrip('.'), section.owner or place.key, section.keys or ())
        elif section.target and (expected := wrong_value(section.target, key, value)):
            yield f"'{place.path}.{key}' is {value!r}, but {section.owner} takes {expected}"


def _is_variable(root: Place, name: str) -> bool:
    """Whether a name at top level is a variable: the known name is there and holds the value or an item of it."""
    value, known = root.node[name], nearest(name, TOP_LEVEL)
    parts = [value, *(value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ())]
    parts = [part for part in parts if isinstance(part, dict | list)]
    places = [place for key in known if key in root.node for place in root.child(key).below()]
    return name.startswith('_') or name.endswith('pipeline') or any(place.node in parts for place in places)


def _check_option(root: Place, option: str) -> None:
    """Follow a dotted key as far as it exists and ask the section reached about the first part that is new."""
    parts, place = option.split('.'), root
    if parts[0] not in TOP_LEVEL:
        raise ConfigError(_never_read(root, option))
    for part, following in zip(parts, [*parts[1:], ''], strict=True):
        node, where = place.node, f'{place.path}.{part}'.lstrip('.')
        if isinstance(node, dict) and part not in node:
            if following.isdigit():
                raise ConfigError(f"unknown key '{option}' ('{where}' is not set, so it has no items)")
            return _check_new_key(root, place, part)
        if isinstance(node, list | tuple) and not (part.isdigit() and int(part) < len(node)):
            raise ConfigError(f"unknown key '{where}' ('{place.path}' is a list of {len(node)} items)")
        if not isinstance(node, dict | list | tuple):
            raise ConfigError(f"unknown key '{where}' ('{place.path}' is {node!r}, not a section with keys)")
        place = place.child(part)
    return None


def _check_new_key(root: Place, place: Place, key: str) -> None:
    section, where = place.section(), f'{place.path}.{key}'
    if section.owner is None:  # plain data: overrides change what is there
        raise ConfigError(_unknown(where, f"'{place.path}'", place.node))
    if place.path and section.refuses(key):
        meant = '' if nearest(key, section.keys or ()) else _elsewhere(root, key)
        said = f"unknown key '{where}' ({section.owner} has no such option{meant})"
        raise ConfigError(said if meant else _unknown(where, section.owner, section.keys or ()))


def _never_read(root: Place, option: str) -> str:
    """Say why an option at top level would change nothing, and which one would."""
    name = option.partition('.')[0]
    if option in _LENGTHS:
        return f"unknown key '{option}': {_INSTEAD[option]}"
    meant = _elsewhere(root, option)
    if name in root.node:
        return f"'{option}' would change nothing: '{name}' is a variable that the config file read before{meant}"
    if meant or option in _INSTEAD:
        return f"unknown key '{option}'{meant or f': {_INSTEAD[option]}'}"
    return _unknown(name, 'a config', {*TOP_LEVEL, *root.node})


def _elsewhere(root: Place, option: str) -> str:
    """Name the full paths that an option may have meant: the same value as the variable, or the same last name."""
    name, dot, rest = option.partition('.')
    last, value, places = option.rpartition('.')[2], root.node.get(name), list(root.below())[1:]
    is_part = isinstance(value, dict | list) and value
    same = [f'{place.path}{dot}{rest}' for place in places if is_part and place.node == value]
    found = same or [p.path for p in places if p.path.rpartition('.')[2] in (last, _ALSO_CALLED.get(last))]
    return f'; set {" or ".join(map(repr, found[:3]))} instead' if found else ''


def _unknown(where: str, owner: str, known: Iterable[str]) -> str:
    names = sorted(name for name in map(str, known) if not name.startswith('_'))
    near = nearest(where.rpartition('.')[2], names)
    hint = f"did you mean '{near[0]}'?" if near else f'it has: {", ".join(names)}'
    return f"unknown key '{where}' ({owner} has no such option; {hint})"
