"""The three kinds of files of ``torch.save``: the locations of their pickles and storages.

The directory of a zip file is checked before its content is read: its parts must be stored uncompressed, and together
must not be larger than the file. Each storage is read once.
"""

import io
import os
import struct
import tarfile
import zipfile
from typing import IO, Any

import torch

from .pickled_calls import CALLS, Storage, build_stub, storage_dtype
from .stubs import ForeignCall, Refused
from .unpickling import Unpickler

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_DIRECTORY = 8 * 2**20  # bytes of a zip file's directory: enough for 80 000 parts
_LOCAL_HEADER = struct.Struct('<4s22xHH')


class BoundedFile:
    """A file whose reads never allocate more bytes than are left or requested.

    Args:
        file: The file.
        size: Its size in bytes.
        most: Largest number of bytes to read at once.
    """

    def __init__(self, file: IO[bytes], size: int, most: int) -> None:
        self.file, self.size, self.most = file, size, most
        self.readline, self.seek, self.tell = file.readline, file.seek, file.tell

    def seekable(self) -> bool:
        """Whether the file is seekable, as for any file."""
        return True

    def read(self, count: int = -1) -> bytes:
        """The next ``count`` bytes, or what is left."""
        if 0 <= count <= 64:  # most reads of a pickle
            return self.file.read(count)
        left = max(self.size - self.file.tell(), 0)
        count = left if count < 0 else min(count, left)
        if count > self.most:
            raise Refused('it has a part that is larger than allowed')
        return self.file.read(count)


def load_file(file: IO[bytes]) -> Any:
    """Read what ``torch.save`` wrote into an open file.

    Raises:
        Refused: If the file is of another kind, or holds something that is not supported.
        Exception: Of any type if it is damaged.
    """
    size = os.fstat(file.fileno()).st_size
    if file.read(4) == b'PK\x03\x04':
        return _ZipFile(file, size).load()
    file.seek(0)
    return _LegacyFile(file, size).load()


def _fill(data: torch.UntypedStorage, file: IO[bytes]) -> torch.UntypedStorage:
    """Read the bytes of a storage from the current position of the file."""
    view = memoryview(torch.empty(0, dtype=torch.uint8).set_(data).numpy())  # type: ignore[call-overload,arg-type]
    while len(view):
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError('the file ends inside a storage')
        view = view[count:]
    return data


def _storage_of(count: int) -> torch.UntypedStorage:
    return torch.empty(count, dtype=torch.uint8).untyped_storage()


class _ZipFile:
    """The format of PyTorch 1.6 and later."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size = file, size
        entries = zipfile.ZipFile(BoundedFile(file, size, _MAX_DIRECTORY)).infolist()  # type: ignore[arg-type]
        self.parts = {entry.filename: entry for entry in entries}
        if len(self.parts) < len(entries):
            raise Refused('two of its parts have the same name')
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise Refused('its parts are compressed, which torch.save does not do; unpack it and save it again')
        if any(e.compress_size != e.file_size or e.flag_bits & 1 for e in entries):
            raise Refused('the sizes of its parts contradict each other, or they are encrypted')
        if sum(entry.file_size for entry in entries) > size:
            raise Refused('its parts are larger than the file')
        self.storages: dict[str, torch.UntypedStorage] = {}

    def load(self) -> Any:
        roots = [name.removesuffix('/data.pkl') for name in self.parts if name.endswith('/data.pkl')]
        if len(roots) != 1:
            raise Refused('it is a zip file, but not one of torch.save')
        self.root = roots[0]
        if f'{self.root}/constants.pkl' in self.parts:
            raise Refused('it is a TorchScript program; load it with torch.jit.load and save its state dict')
        if self._is_big_endian():
            raise Refused('it was written on a machine with another byte order; save it on this kind of machine')
        self._go_to(f'{self.root}/data.pkl')
        content = self.file.read(self.parts[f'{self.root}/data.pkl'].file_size)
        return Unpickler(io.BytesIO(content), len(content), CALLS, build_stub, self._storage).load()

    def _is_big_endian(self) -> bool:
        name = f'{self.root}/byteorder'
        if name not in self.parts:
            return False
        self._go_to(name)
        return self.file.read(6) != b'little'

    def _go_to(self, name: str) -> None:
        """Move to the content of a part, after its local header."""
        entry = self.parts[name]
        self.file.seek(entry.header_offset)
        signature, name_length, extra = _LOCAL_HEADER.unpack(self.file.read(_LOCAL_HEADER.size))
        start = entry.header_offset + _LOCAL_HEADER.size + name_length + extra
        if signature != b'PK\x03\x04' or start + entry.file_size > self.size:
            raise ValueError(f'part {name} is not where the directory states')
        self.file.seek(start)

    def _storage(self, known: tuple) -> Storage:
        word, kind, key, _, count = known
        if word != 'storage' or type(key) is not str or type(count) is not int:
            raise ValueError('description of a storage')
        dtype = storage_dtype(kind)
        if key not in self.storages:
            name = f'{self.root}/data/{key}'
            self._go_to(name)
            self.storages[key] = _fill(_storage_of(self.parts[name].file_size), self.file)
        data = self.storages[key]
        if not 0 <= count * dtype.itemsize <= data.nbytes():
            raise ValueError('a storage is smaller than stated')
        return Storage(dtype, data)


class _LegacyFile:
    """The format before PyTorch 1.6: consecutive pickles, then all storages."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size = file, size
        self.storages: dict[str, Storage] = {}
        self.promised = 0

    def load(self) -> Any:
        try:
            magic = self._pickle()
        except ForeignCall:
            raise
        except Exception:  # not a pickle
            magic = None
        if magic != _LEGACY_MAGIC:
            self.file.seek(0)
            if tarfile.is_tarfile(BoundedFile(self.file, self.size, _MAX_DIRECTORY)):  # type: ignore[arg-type]
                raise Refused('it is a tar file (an archive, or of PyTorch before 0.1.10); unpack it')
            raise ValueError('it does not begin like a file of torch.save')
        if self._pickle() != _LEGACY_PROTOCOL or self._pickle().get('little_endian') is not True:
            raise Refused('it was written by an unknown version or on a machine with another byte order')
        content = self._pickle()
        keys = self._pickle()
        if type(keys) is not list or sorted(keys) != sorted(self.storages):
            raise ValueError('list of storages')
        for key in keys:
            found = self.storages[key]
            (count,) = struct.unpack('<q', self.file.read(8))
            if count * found.dtype.itemsize != found.data.nbytes():
                raise ValueError('a storage of another size than stated')
            _fill(found.data, self.file)
        return content

    def _pickle(self) -> Any:
        source = BoundedFile(self.file, self.size, self.size)
        return Unpickler(source, self.size - self.file.tell(), CALLS, build_stub, self._storage).load()

    def _storage(self, known: tuple) -> Storage:
        word, kind, key, _, count, part = (*known, None)[:6]
        if word != 'storage' or type(key) is not str or type(count) is not int or part is not None:
            raise ValueError('description of a storage')
        dtype = storage_dtype(kind)
        if key not in self.storages:
            self.promised += count * dtype.itemsize
            if count < 0 or self.promised > self.size:
                raise Refused('its storages are larger than the file')
            self.storages[key] = Storage(dtype, _storage_of(count * dtype.itemsize))
        found = self.storages[key]
        if count * dtype.itemsize != found.data.nbytes():
            raise ValueError('a storage with two sizes')
        return Storage(dtype, found.data)
