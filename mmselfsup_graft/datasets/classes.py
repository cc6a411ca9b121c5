"""Class names: one list that numbers the labels of every split."""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmselfsup_graft.errors import ConfigError, DataError

_SHOWN = 20
_NUMBERED = re.compile(r'(\d+)[\s,:;]+\S')
_GIVE = "give both the same list: metainfo=dict(classes=[...]), or classes='FILE' with one name per line"


def given_classes(metainfo: Mapping[str, Any] | None, owner: str, data_root: str = '') -> tuple[str, ...] | None:
    """Return the list of classes in ``metainfo``, if there is one.

    Args:
        metainfo: ``classes`` is a list of names, or a file with one name per line.
        owner: For messages.
        data_root: Where to look for the file, before the working folder.

    Raises:
        ConfigError: It is empty, has a name twice, holds something else than text, or the file cannot be read.
    """
    value = None if metainfo is None else metainfo.get('classes')
    if value is None:
        return None
    if isinstance(value, str | os.PathLike):
        inside = os.path.join(data_root, value)
        return read_classes(inside if os.path.isfile(inside) else value)
    return _checked(list(value), f'{owner}: metainfo.classes')


def read_classes(path: str | os.PathLike) -> tuple[str, ...]:
    """Read a file with one name of a class per line; blank lines at the end are ignored.

    Raises:
        ConfigError: It cannot be read, is empty, has a name twice or a blank line in between, or is a JSON list or
            numbered: each line begins with a number, together 0, 1, 2 ... or 1, 2, 3 ... in any order.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            lines = [line.strip() for line in file.read().rstrip().split('\n')]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'the list of classes {os.fspath(path)!r} cannot be read ({error}); expected a text file with one name '
            'per line, or a list of names'
        ) from error
    if lines[0].startswith(('[', '{')) or _are_numbered(lines):
        raise ConfigError(
            f'the list of classes {os.fspath(path)!r} begins with {lines[0]!r:.60}; expected names alone, one per '
            'line, in the order of their numbers; names that begin with [, { or their own numbers are given in the '
            'config: metainfo=dict(classes=[...])'
        )
    return _checked(lines, f'the list of classes {os.fspath(path)!r}')


def _are_numbered(lines: Sequence[str]) -> bool:
    """Whether the lines begin with consecutive numbers from 0 or 1, in any order."""
    numbers = sorted(int(match[1]) for line in lines if (match := _NUMBERED.match(line)))
    return (
        len(numbers) == len(lines) > 1
        and numbers[0] in (0, 1)
        and numbers == list(range(numbers[0], numbers[0] + len(lines)))
    )


def _checked(names: list[Any], what: str) -> tuple[str, ...]:
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f'{what} is {names!r:.200}, expected one or more names, each a text that is not empty')
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ConfigError(f'{what} has the name {twice!r} twice; every class needs a name of its own')
    return tuple(names)


def numbers_as_names(count: int) -> tuple[str, ...]:
    """Class names of numbered classes: ``'0'``, ``'1'`` …"""
    return tuple(map(str, range(count)))


def are_numbers(names: Sequence[str]) -> bool:
    """Whether the names are only the numbers of the classes."""
    return tuple(names) == numbers_as_names(len(names))


def shown(names: Sequence[str]) -> str:
    """Short description of a list: its first names and their number."""
    more = f' … {names[-1]}' if len(names) > _SHOWN else ''
    return f'{len(names)} classes ({", ".join(names[:_SHOWN])}{more})'


def renumbering(
    own: Sequence[str], wanted: Sequence[str], used: Iterable[int], owner: str, other: str = 'the training data'
) -> dict[int, int]:
    """Return the number of each class in another list, by its name.

    Args:
        own: Names in the order of the present labels.
        wanted: Names in the order of the new labels.
        used: Numbers that occur; only their names must be in ``wanted``.
        owner, other: What the two lists belong to, for the message.

    Returns:
        Number now -> number in ``wanted``, of the numbers used.

    Raises:
        DataError: A class that occurs is not in ``wanted``; both lists are in the message.
    """
    place = {_composed(name): number for number, name in enumerate(wanted)}
    place |= {name: number for number, name in enumerate(wanted)}  # exact names come first
    own = [name if name in place else _composed(name) for name in own]
    numbers = sorted(set(used))
    missing = [own[number] for number in numbers if own[number] not in place]
    if missing:
        names = ', '.join(map(repr, missing[:_SHOWN])) + (' …' if len(missing) > _SHOWN else '')
        raise DataError(
            f'{owner} has images of {names}, not among the classes of {other}. {owner}: {shown(own)}; {other}: '
            f'{shown(wanted)}. Remove these images, or {_GIVE}'
        )
    return {number: place[own[number]] for number in numbers}


def _composed(name: str) -> str:
    """One spelling of accents: file systems store them in two ways."""
    return unicodedata.normalize('NFC', name)


def naming(
    own: Sequence[str], given: Sequence[str], used: Iterable[int], owner: str, only_numbers: bool
) -> dict[int, int]:
    """Return the number of each class in the list that the user gave.

    Classes are found by name; data with numbers only takes the names in order, the first for 0. This does
    not depend on the classes that a split holds.

    Args:
        own, used, owner: See :func:`renumbering`.
        given: The list.
        only_numbers: Whether the data has no names of classes, only numbers.

    Raises:
        DataError: A class that occurs is not in the list; both lists are in the message.
    """
    numbers = sorted(set(used))
    if only_numbers:
        own = (*given, *own[len(given) :])
    return renumbering(own, given, numbers, owner, 'metainfo.classes')


def share_classes(train: Any, others: Mapping[str, Any]) -> None:
    """Number the labels of other data sets by the classes of the training set, in place.

    Unlabeled data sets, and those of other libraries, are left alone.

    Args:
        train: A :class:`mmselfsup_graft.datasets.SelfSupDataset`, whose list of classes is used.
        others: Data sets by the names that messages call them.

    Raises:
        DataError: One of them has images of a class that the training set does not know.
    """
    names = getattr(train, 'classes', None)
    if not others or names is None or train.labels() is None:
        return
    for name, dataset in others.items():
        if dataset is not train and hasattr(dataset, 'use_classes'):
            dataset.use_classes(names, f'the {name} data')
