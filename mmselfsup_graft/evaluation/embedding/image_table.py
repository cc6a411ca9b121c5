"""Features of images as a table of path, label and vector, in a file: ``.parquet``, ``.npy`` or ``.csv``."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.utils.files import open_regular, whole_file

SUFFIXES = ('.parquet', '.npy', '.csv')


@dataclass(frozen=True)
class ImageTable:
    """Features of images.

    Attributes:
        paths: File of each image; its number where it has none.
        labels: Name of each image's class; None without labels.
        vectors: [N, D] float32.
    """

    paths: Sequence[str]
    labels: Sequence[str] | None
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def numbered(self) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """Labels [N] as numbers, or None, and the names of the classes in their order."""
        if self.labels is None:
            return None, ()
        names, numbers = np.unique(np.array(self.labels), return_inverse=True)
        return numbers.astype(np.int64), tuple(names.tolist())

    def take(self, rows: np.ndarray) -> 'ImageTable':
        """Some rows, in the order of their numbers [K]."""
        labels = None if self.labels is None else [self.labels[row] for row in rows]
        return ImageTable([self.paths[row] for row in rows], labels, self.vectors[rows])


def check_suffix(path: Path) -> None:
    """Raise an error, before any work, for a file of an unknown kind or whose library is missing.

    Raises:
        ConfigError: If the suffix is unknown, or pyarrow is not installed for ``.parquet``.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f'{str(path)!r} must end in {", ".join(SUFFIXES[:-1])} or {SUFFIXES[-1]}')
    if path.suffix == '.parquet':
        _pyarrow()


def write_table(table: ImageTable, path: Path) -> None:
    """Write the table, atomically.

    ``.parquet`` has the columns ``path``, ``label`` (null without labels) and ``vector`` (a list of D floats); ``.npy``
    an array of records with these fields (label: '' without labels), for ``numpy.load``; ``.csv`` the columns ``path``,
    ``label`` and ``0`` to ``D - 1``, with as many digits as float32 has.
    """
    check_suffix(path)
    with whole_file(path) as file:
        if path.suffix == '.npy':
            np.save(file, _records(table), allow_pickle=False)
        elif path.suffix == '.csv':
            file.write(_csv_text(table).encode('utf-8', 'surrogateescape'))
        else:
            _write_parquet(table, file)


def read_table(path: Path) -> ImageTable:
    """Read a file of :func:`write_table`.

    Raises:
        ConfigError: See :func:`check_suffix`.
        DataError: If it is missing, damaged or not such a table.
    """
    check_suffix(path)
    try:
        with open_regular(path) as file:
            table = {'.npy': _read_npy, '.csv': _read_csv, '.parquet': _read_parquet}[path.suffix](file)
    except (OSError, ValueError, KeyError, IndexError, TypeError, StopIteration, UnicodeError, MemoryError) as error:
        raise DataError(
            f'{str(path)!r} cannot be read as a table of features ({" ".join(str(error).split())[:200]}); '
            'write it with graft embed'
        ) from error
    if not len(table) or table.vectors.ndim != 2 or not np.isfinite(table.vectors).all():
        raise DataError(f'{str(path)!r} holds no features, or NaN or infinity among them; write it with graft embed')
    return table


def _records(table: ImageTable) -> np.ndarray:
    paths = np.array(list(map(_encodable, table.paths)))
    labels = np.array(list(map(_encodable, table.labels or [''] * len(table))))
    kind = [('path', paths.dtype), ('label', labels.dtype), ('vector', np.float32, table.vectors.shape[1:])]
    rows = np.empty(len(table), dtype=kind)
    rows['path'], rows['label'], rows['vector'] = paths, labels, table.vectors
    return rows


def _encodable(text: str) -> str:
    """Names of files may hold bytes that are not UTF-8; a table shows them as ``?``."""
    return text.encode('utf-8', 'replace').decode()


def _read_npy(file: Any) -> ImageTable:
    rows = np.load(file, allow_pickle=False)
    labels = rows['label'].tolist()
    return ImageTable(rows['path'].tolist(), labels if any(labels) else None, rows['vector'].astype(np.float32))


def _csv_text(table: ImageTable) -> str:
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['path', 'label', *range(table.vectors.shape[1])])
    labels = table.labels or [''] * len(table)
    for path, label, vector in zip(table.paths, labels, table.vectors):
        writer.writerow([path, label, *(f'{value:.9g}' for value in vector.tolist())])
    return text.getvalue()


def _read_csv(file: Any) -> ImageTable:
    reader = csv.reader(io.TextIOWrapper(file, encoding='utf-8', errors='surrogateescape', newline=''))
    header = next(reader)
    if header[:2] != ['path', 'label']:
        raise ValueError(f'its columns are {", ".join(header[:4])} ...')
    rows = list(reader)
    vectors = np.array([row[2:] for row in rows], dtype=np.float32)
    labels = [row[1] for row in rows]
    return ImageTable([row[0] for row in rows], labels if any(labels) else None, vectors)


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            'a .parquet file needs pyarrow, which is not installed: pip install pyarrow, or choose .npy or .csv'
        ) from error
    return pyarrow


def _write_parquet(table: ImageTable, file: Any) -> None:
    arrow = _pyarrow()
    width = table.vectors.shape[1]
    flat = arrow.array(np.ascontiguousarray(table.vectors, dtype=np.float32).reshape(-1))
    labels = [None] * len(table) if table.labels is None else list(map(_encodable, table.labels))
    columns = {
        'path': arrow.array(list(map(_encodable, table.paths)), arrow.string()),
        'label': arrow.array(labels, arrow.string()),
        'vector': arrow.FixedSizeListArray.from_arrays(flat, width),
    }
    arrow.parquet.write_table(arrow.table(columns), file)


def _read_parquet(file: Any) -> ImageTable:
    arrow = _pyarrow()
    try:
        rows = arrow.parquet.read_table(file, columns=['path', 'label', 'vector'])
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from error
    vectors = np.array(rows['vector'].to_pylist(), dtype=np.float32)
    labels = rows['label'].to_pylist()
    return ImageTable(rows['path'].to_pylist(), None if None in labels else labels, vectors)
