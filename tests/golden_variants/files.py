"""Reading, changing and writing the files of a variant."""

import json
import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

Json = Any
Arrays = dict[str, np.ndarray]


class Words:
    """New names: none of them occurs in the committed set, none looks like another."""

    def __init__(self) -> None:
        self._numbers = count(41, 7)

    def new(self) -> str:
        """A name with a number in it."""
        return f'z{next(self._numbers)}_{random.choice("uvwxyz")}{random.randrange(10)}'


def read_arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def settings_of(arrays: Arrays, key: str) -> Json:
    return json.loads(str(arrays[key]))


def shuffled(mapping: dict[str, Any]) -> dict[str, Any]:
    names = list(mapping)
    random.shuffle(names)
    return {name: mapping[name] for name in names}


def save(path: Path, content: Json) -> None:
    """Write arrays or an object, the entries at its top in another order."""
    content = shuffled(content) if isinstance(content, dict) else content
    if path.suffix == '.json':
        path.write_text(json.dumps(content))
    else:
        np.savez(path, **{name: _of_another_type(value) for name, value in content.items()})


def _of_another_type(value: np.ndarray) -> np.ndarray:
    """The same numbers in twice or half as many bits, where that changes none."""
    other = {np.dtype('float32'): np.float64, np.dtype('int64'): np.int32}.get(value.dtype)
    return value if other is None else value.astype(other)


def load(path: Path) -> Json:
    return json.loads(path.read_text()) if path.suffix == '.json' else read_arrays(path)


def files_in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix in ('.npz', '.json'))


def half(arrays: Arrays, prefix: str) -> Arrays:
    """Without every second of the optional arrays that start with a prefix."""
    left_out = [name for name in arrays if name.startswith(prefix)][1::2]
    return {name: value for name, value in arrays.items() if name not in left_out}


def renamed(cases: dict[str, Json], words: Words) -> dict[str, Json]:
    """Cases with other names and their entries in another order."""
    return {words.new(): shuffled(case) for case in cases.values()}
