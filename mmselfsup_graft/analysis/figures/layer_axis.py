"""Layers of several encoders on one axis."""

import re
from collections.abc import Iterable
from typing import Any

_BLOCK = re.compile(r'block (\d{1,4})$')
_OTHER = re.compile(r'\w[\w. -]{0,40}')


def is_layer(name: Any) -> bool:
    """Whether this can be the name of a layer: short, of letters, digits, blanks, dots and dashes."""
    return type(name) is str and _OTHER.fullmatch(name) is not None


def by_depth(runs: Iterable[Iterable[str]]) -> list[str]:
    """All layers of several runs, each once: first the stem, then the blocks by number, then the heads.

    Args:
        runs: Names of the layers of each run, as ``param_groups.json`` has them: ``stem``, ``block 0``, ``heads``.
            Layers with other names come before the heads, in the order of their first occurrence.
    """
    return sorted(dict.fromkeys(layer for layers in runs for layer in layers), key=_place)


def _place(layer: str) -> tuple[int, int]:
    block = _BLOCK.match(layer)
    if block:
        return 1, int(block[1])
    return {'stem': 0, 'heads': 3}.get(layer, 2), 0
