"""The call of ``timm.create_model`` that a file states: plain values, nothing that reads or fetches weights."""

import re
from collections.abc import Mapping
from typing import Any

#: arguments by which timm would open a file or a connection, or change what a model returns
REFUSED = ('pretrained', 'checkpoint_path', 'cache_dir', 'features_only', 'num_classes', 'scriptable', 'exportable')
_PLAIN = (str, int, float, bool, type(None))


def checked_timm_call(value: Any) -> dict[str, Any] | None:
    """The call if it is one, else None.

    Args:
        value: ``model_name``, the name of an architecture of timm, and plain arguments; a name with a scheme
            (``hf-hub:``) and arguments that read weights are refused.
    """
    if not isinstance(value, Mapping):
        return None
    name = value.get('model_name')
    known = isinstance(name, str) and re.fullmatch(r'[A-Za-z0-9_]+', name)
    return dict(value) if known and all(_allowed(key, each) for key, each in value.items()) else None


def _allowed(key: Any, value: Any) -> bool:
    return isinstance(key, str) and key not in REFUSED and not key.startswith('pretrained') and is_plain(value)


def is_plain(value: Any) -> bool:
    """Whether a value consists of numbers, texts, lists and dicts with texts as keys."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(each) for each in value)
    return isinstance(value, _PLAIN)
