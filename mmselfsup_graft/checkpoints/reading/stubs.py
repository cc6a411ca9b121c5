"""What stands for the names and objects of a pickle, and the rules for the texts and keys in it."""

from typing import Any

_NAME_LENGTH = 100  # characters of a name in a message, and of the parts of a key that is not text
_KEY_LENGTH = 500
_PYTHON2 = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}


class Refused(Exception):
    """What a file asks for is not done; the message says why."""


class ForeignCall(Refused):
    """A file asks to call something unknown; the message is its name."""


class Name:
    """A name in a pickle, ``module.attribute``: nothing is imported."""

    __slots__ = ('text',)

    def __init__(self, module: str, attribute: str) -> None:
        self.text = f'{_PYTHON2.get(module, module)}.{attribute}'


class Stub:
    """Stands for an object of any class: it holds what was to be put into it.

    Args:
        name: Name of the class.
        args: What it was to be called with.
    """

    __slots__ = ('args', 'entries', 'items', 'name', 'state', 'value')

    def __init__(self, name: str, args: tuple = ()) -> None:
        self.name = name
        self.args = args
        self.items: dict | None = None  # of a subclass of dict
        self.entries: list | None = None  # of a subclass of list
        self.state: Any = None
        self.value: Any = None  # what a known call made of its state


def shown(text: str) -> str:
    """A name out of a file as a message can show it."""
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _NAME_LENGTH else f'{text[:_NAME_LENGTH]}...'


def clean_text(text: str) -> str:
    """Text out of a file that can be printed and written: lone surrogates become escapes."""
    if text.isascii():
        return text
    return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def plain_key(key: Any) -> str | int:
    """A key of a dict as text or a number. Others are written as text: they could be made to take hours to hash.

    Text is short, as a file may ask for the same comparison of two long keys again and again, and printable, as names
    of tensors and entries come into messages.

    Raises:
        Refused: If the key is a container or an object, too long or not printable.
    """
    if type(key) is str:
        if len(key) > _KEY_LENGTH or not key.isprintable():
            raise Refused(f'a name in it has {len(key):,} characters or some that cannot be printed')
        return key
    if type(key) is int:
        if -(2**60) < key < 2**60:
            return key
        raise Refused('a number with more than 60 bits is a key in it')
    if key is None or type(key) in (bool, float):
        return str(key)
    if type(key) is bytes and len(key) <= _NAME_LENGTH:
        return plain_key(key.decode('utf-8', 'backslashreplace'))
    if type(key) is tuple and len(key) <= 8 and all(_is_short(each) for each in key):
        return plain_key(str(key))
    raise Refused('an object is a key in it')


def _is_short(value: Any) -> bool:
    return type(value) in (int, float, bool) or (type(value) is str and len(value) <= _NAME_LENGTH)
