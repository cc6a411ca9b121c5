"""The resolved config, with the file and line of each value: ``graft config CONFIG``."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmselfsup_graft.cli.options import add_cfg_options
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.utils.suggestions import did_you_mean


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description='The resolved config, with the origin of each value')
    parser.add_argument('config', help='config file')
    parser.add_argument('--key', default='', metavar='KEY', help='only this part, e.g. train_dataloader.dataset')
    parser.add_argument('--plain', action='store_true', help='print a config file without _base_ instead')
    add_cfg_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the values, one a line."""
    args = make_parser().parse_args(argv)
    from mmengine.config import Config

    from mmselfsup_graft.engine.config.origins import leaves, origins_of
    from mmselfsup_graft.engine.train import load_config

    cfg = load_config(args.config, args.cfg_options)
    content = cfg.to_dict()
    wanted = tuple(args.key.split('.')) if args.key else ()
    _check_key(content, wanted)
    if args.plain:
        print(Config(_nested(_part(content, wanted), wanted)).pretty_text)
        return
    origins = origins_of(args.config, args.cfg_options)
    rows = []
    for key, value in leaves(content):
        if key[: len(wanted)] == wanted:
            rows += [(text, str(origins.get(key, ''))) for text in _texts('.'.join(key), value)]
    width = min(72, max(len(text) for text, _ in rows))
    for text, origin in rows:
        print(f'{text:{width}}  # {origin}' if origin else text)


def _texts(key: str, value: Any) -> Iterator[str]:
    """``key = value``; a list of dicts or lists is one line per entry."""
    if isinstance(value, list | tuple) and any(isinstance(each, dict | list | tuple) for each in value):
        for number, each in enumerate(value):
            yield from _texts(f'{key}.{number}', each)
        return
    yield f'{key} = {value!r}'


def _part(content: Any, key: tuple[str, ...]) -> Any:
    for name in key:
        content = content[name]
    return content


def _nested(value: Any, key: tuple[str, ...]) -> Any:
    for name in reversed(key):
        value = {name: value}
    return value


def _check_key(content: Any, key: tuple[str, ...]) -> None:
    """Raise an error for a part that does not exist.

    Raises:
        ConfigError: In that case.
    """
    for length, name in enumerate(key):
        known = content if isinstance(content, Mapping) else {}
        if name not in known:
            inside = '.'.join(key[:length]) or 'the config'
            raise ConfigError(f'--key {".".join(key)}: {inside} has no {name!r}{did_you_mean(name, known)}')
        content = content[name]
