"""Placeholders for the names and objects of a pickle, and rules for its texts and keys."""

from typing import Any

_NAME_LENGTH = 100  # characters of a name in a message, and of the parts of a key that is not text
_KEY_LENGTH = 500
_PYTHON2 = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}


class Refused(Exception):
    """A request of a file is refused; the message says why."""


class ForeignCall(Refused):
    """A file asks to call something unknown; the message is its name."""


class Name:
    """A name in a pickle, ``module.attribute``: nothing is imported."""

    __slots__ = ('text',)

    def __init__(self, module: str, attribute: str) -> None:
        self.text = f'{_PYTHON2.get(module, module)}.{attribute}'


class Stub:
    """Placeholder for an object of any class: it holds the arguments and the state of the object.

    Args:
        name: Name of the class.
        args: Arguments of the call that creates it.
    """

    __slots__ = ('args', 'entries', 'items', 'name', 'state', 'value')

    def __init__(self, name: str, args: tuple = ()) -> None:
        self.name = name
        self.args = args
        self.items: dict | None = None  # of a subclass of dict
        self.entries: list | None = None  # of a subclass of list
        self.state: Any = None
        self.value: Any = None  # result of a known call with its state


def shown(text: str) -> str:
    """A name from a file in a form for messages."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _NAME_LENGTH else f'{text[:_NAME_LENGTH]}...'


def clean_text(text: str) -> str:
    """Text from a file in a printable form: lone surrogates become escapes."""
    if text.isascii():
        return text
    return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def plain_key(key: Any) -> str | int:
    """A key of a dict as text or a number. Others become text: a file could make their hashing take hours.

    Text must be short, as a file may repeat the comparison of two long keys, and printable, as names of tensors and
    entries appear in messages.

    Raises:
        Refused: If the key is a container or an object, too long or not printable.
    """
    if type(key) is str:
        if len(key) > _KEY_LENGTH or not key.isprintable():
            raise Refused(f'a name in it has {len(key):,} characters or contains unprintable ones')
        return key
    if type(key) is int:
        if -(2**60) < key < 2**60:
            return key
        raise Refused('a key in it is a number with more than 60 bits')
    if key is None or type(key) in (bool, float):
        return str(key)
    if type(key) is bytes and len(key) <= _NAME_LENGTH:
        return plain_key(key.decode('utf-8', 'backslashreplace'))
    if type(key) is tuple and len(key) <= 8 and all(_is_short(each) for each in key):
        return plain_key(str(key))
    raise Refused('a key in it is an object')


def _is_short(value: Any) -> bool:
    return type(value) in (int, float, bool) or (type(value) is str and len(value) <= _NAME_LENGTH)
