"""The index of tar archives: archive and bytes of every image.

An archive follows the layout of webdataset: neighboring members that share a key (the name up to the first dot
of its last part) are one sample, ``key.jpg`` its image and ``key.cls`` its label as text. Where a key has no such
image, but images with dots in their names (``scan.v2.png`` and ``scan.v3.png``), the key is the name up to the last
dot.
"""

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any, NamedTuple

from mmselfsup_graft.datasets.scanning import IMAGE_EXTENSIONS, is_companion_file, is_hidden
from mmselfsup_graft.datasets.skipped_files import LeftOut
from mmselfsup_graft.errors import DataError

INDEX_NAME = 'index.json'
HEADER_BYTES = tarfile.BLOCKSIZE  # in front of the data of every member
_FORMAT, _VERSION = 'mmselfsup_graft shard index', 1
_KEY = re.compile(r'((?:.*/)?[^./]+)\.([^/]*)', re.DOTALL)
_RANGE = re.compile(r'\{(\d+)\.\.(\d+)\}')
_BESIDE = ' beside an image'
_COLUMNS = ('keys', 'kinds', 'offsets', 'sizes', 'labels')


@dataclass
class Shard:
    """One archive; the lists have one entry per sample.

    Attributes:
        name: File, relative to the folder of the archives.
        bytes: Its size.
        sha256: Of its content, empty if not known.
        keys: Names of the samples.
        kinds: Extensions of their images, as written in the archive.
        offsets: First byte of the image in the archive.
        sizes: Bytes of the image.
        labels: Numbers of the classes, -1 where there is none.
        ignored: Number of skipped members by reason.
        examples: Names of the first of them, by reason.
    """

    name: str
    bytes: int
    sha256: str = ''
    keys: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, key: str, kind: str, offset: int, size: int, label: int) -> None:
        """Add a sample."""
        for column, value in zip(_COLUMNS, (key, kind, offset, size, label), strict=True):
            getattr(self, column).append(value)

    def left_out(self) -> LeftOut:
        """What was left out of the archive."""
        return LeftOut.of(self.ignored, self.examples, _is_expected)


def _is_expected(reason: str) -> bool:
    return reason == 'hidden' or reason.endswith(_BESIDE)


class _Member(NamedTuple):
    """A member of a sample: what follows the first dot of its name, where it lies, and its label if it is one."""

    name: str
    kind: str
    offset: int
    size: int
    label: int = -1

    @property
    def end(self) -> str:
        """What follows the last dot, in lower case."""
        return self.kind.rpartition('.')[2].lower()

    @property
    def stem(self) -> str:
        """What lies between the first and the last dot."""
        return self.kind.rpartition('.')[0]


def index_archive(file: IO[bytes], name: str, size: int) -> Shard:
    """Read the members of an uncompressed tar archive; nothing is decoded or unpickled.

    Args:
        file: The archive, seekable.
        name: Its name in the index and in messages.
        size: Its bytes.

    Raises:
        DataError: It is not an uncompressed tar archive or is cut off, a label is not a number, or a sample has two
            images.
    """
    shard, ignored = Shard(name, size), LeftOut()
    last, members = '', list[_Member]()
    try:
        with tarfile.open(fileobj=file, mode='r:') as archive:
            for key, member in _members(archive, name, ignored):
                if key != last:
                    _add_samples(shard, last, members, ignored)
                    last, members = key, []
                members.append(member)
            _add_samples(shard, last, members, ignored)
            end = archive.offset
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f'{name} is not an uncompressed tar archive, or damaged ({error}); write it again') from error
    if end > size or any(start + length > size for start, length in zip(shard.offsets, shard.sizes)):
        raise DataError(f'{name} is cut off after {size} bytes; copy or write it again')
    shard.ignored, shard.examples = ignored.counts(), ignored.names()
    return shard


def _members(archive: tarfile.TarFile, name: str, ignored: LeftOut) -> Iterator[tuple[str, _Member]]:
    """Yield the files of an archive that may belong to a sample, with their keys; count the others."""
    for member in archive:
        parts = member.name.removeprefix('./').split('/')
        match = _KEY.fullmatch(member.name)
        if member.isdir():
            continue
        if any(map(is_hidden, parts)):
            ignored.add('hidden', member.name)
        elif not member.isreg() or member.issparse():
            ignored.add('link or special file', member.name)
        elif match is None:
            if not is_companion_file(parts[-1]):
                ignored.add('no extension', member.name)
        else:
            label = _label(archive, member, name) if match[2].rpartition('.')[2].lower() == 'cls' else -1
            yield match[1], _Member(member.name, match[2], member.offset_data, member.size, label)


def _add_samples(shard: Shard, key: str, members: Sequence[_Member], ignored: LeftOut) -> None:
    """Add the samples among the members of a key: one, or one per name up to the last dot."""
    images = [member for member in members if f'.{member.end}' in IMAGE_EXTENSIONS]
    plain = [member for member in images if not member.stem]
    labels = {member.stem: member.label for member in members if member.end == 'cls'}
    chosen: dict[str, _Member] = {}
    for image in plain or images:
        if image.stem in chosen:
            first = chosen[image.stem]
            raise DataError(f'{shard.name}: {key!r} has two images, {first.kind!r} and {image.kind!r}; expected one')
        chosen[image.stem] = image
    alone = len(chosen) == 1
    for stem, image in chosen.items():
        label = labels.get(stem, labels.get('', -1) if alone else -1)
        whole = f'{key}.{stem}' if stem else key
        shard.add(whole, image.kind.rpartition('.')[2], image.offset, image.size, label)
    for member in members:
        if member in images:
            if member not in chosen.values():
                ignored.add('further images of a sample', member.name)
        elif member.end == 'cls':
            if not chosen:
                ignored.add('label without an image', member.name)
        elif not is_companion_file(member.name.rpartition('/')[2]):
            ignored.add(f'.{member.end}{_BESIDE if chosen else ""}', member.name)


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> int:
    content = archive.extractfile(member)
    text = content.read(64).strip() if content is not None else b''
    if not text.isdigit():
        raise DataError(f'{name}: label {member.name!r} is {text!r}, expected a whole number of at least 0')
    return int(text)


def expand_braces(pattern: str) -> list[str]:
    """Names of ``name-{000000..000127}.tar``, every range expanded; a name without ranges is returned unchanged.

    Raises:
        DataError: A range runs backwards.
    """
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = int(match[1]), int(match[2])
    if first > last:
        raise DataError(f'{pattern!r}: the range {match[0]} runs backwards')
    width = len(match[1])
    names = (
        f'{pattern[: match.start()]}{number:0{width}d}{pattern[match.end() :]}' for number in range(first, last + 1)
    )
    return [each for name in names for each in expand_braces(name)]


def index_text(shards: Sequence[Shard], classes: Sequence[str] | None = None) -> str:
    """The index as JSON."""
    names = None if classes is None else list(classes)
    content = {'format': _FORMAT, 'version': _VERSION, 'classes': names, 'shards': [asdict(shard) for shard in shards]}
    return json.dumps(content)


def parse_index(text: str | bytes, source: str) -> tuple[list[Shard], tuple[str, ...] | None]:
    """Read an index: the archives and the names of the classes, if they are known.

    Raises:
        DataError: It is not an index, has another version, or is damaged.
    """
    advice = 'make it again with tools/dataset_tools/make_shards.py --index-only'
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f'{source} is not JSON ({error}), expected an index of shards; {advice}') from error
    if not isinstance(content, dict) or content.get('format') != _FORMAT:
        raise DataError(f'{source} is not an index of shards; {advice}')
    if content.get('version') != _VERSION:
        raise DataError(f'{source} has version {content.get("version")!r}, expected {_VERSION}; {advice}')
    try:
        shards = [parse_shard(entry, source, advice) for entry in content['shards']]
        classes = None if content['classes'] is None else tuple(map(str, content['classes']))
    except (TypeError, KeyError) as error:
        raise DataError(f'{source} is damaged ({error}); {advice}') from error
    highest = max((max(shard.labels, default=-1) for shard in shards), default=-1)
    if classes is not None and highest >= len(classes):
        raise DataError(f'{source} has the label {highest}, but names {len(classes)} classes; {advice}')
    return shards, classes


def parse_shard(entry: Any, source: str, advice: str = 'remove it and run the command again') -> Shard:
    """Read the entry of one archive in an index.

    Raises:
        DataError: It is damaged, or names a file outside of its folder.
    """
    try:
        shard = Shard(**entry)
        columns = [getattr(shard, column) for column in _COLUMNS]
        lengths = {len(column) for column in columns}
        texts, numbers = [shard.name, shard.sha256, *columns[0], *columns[1]], [shard.bytes, *columns[2], *columns[3]]
        texts += [*shard.ignored, *shard.examples, *(name for names in shard.examples.values() for name in names)]
        numbers += shard.ignored.values()
    except (TypeError, AttributeError) as error:
        raise DataError(f'{source} is damaged ({error}); {advice}') from error
    if len(lengths) != 1:
        raise DataError(f'{source} is damaged: its columns have unequal lengths; {advice}')
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(label, int) for label in shard.labels):
        raise DataError(f'{source} is damaged: a name is not text, or a label not a whole number; {advice}')
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise DataError(f'{source} is damaged: an offset or a size is not a whole number of at least 0; {advice}')
    ends = (start + length for start, length in zip(shard.offsets, shard.sizes))
    if any(start < HEADER_BYTES for start in shard.offsets) or any(end > shard.bytes for end in ends):
        raise DataError(f'{source} is damaged: an image does not lie inside {shard.name}; {advice}')
    parts = shard.name.split('/')
    if '..' in parts or '' in parts or '\0' in shard.name:
        raise DataError(f'{source} names {shard.name!r}, which is not a file below its folder; {advice}')
    return shard
