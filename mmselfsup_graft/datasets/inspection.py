"""A look at every file of image folders: what cannot be read, sizes, modes, copies."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mmselfsup_graft.datasets.image_sets.image_folder import ImageFolder
from mmselfsup_graft.datasets.transforms import CorruptImage, LoadImage
from mmselfsup_graft.utils.progress import Progress

_CHUNK = 16
_NAMED = 5


@dataclass(frozen=True)
class ImageFacts:
    """What is known about an image file.

    Attributes:
        path: The file.
        error: Why it cannot be read; empty if it can.
        sha256: Of its bytes; empty if it cannot be opened.
        size: (height, width) in pixels.
        mode: Pillow's mode, for example ``RGB`` or ``L``.
        kind: Format, for example ``JPEG``.
    """

    path: str
    error: str = ''
    sha256: str = ''
    size: tuple[int, int] = (0, 0)
    mode: str = ''
    kind: str = ''


@dataclass(frozen=True)
class FolderFacts:
    """What was found in a folder.

    Attributes:
        folder: The folder.
        description: Images, classes and left-out files in one line.
        images: One entry per image file.
        classes: Name of the class of each, or None.
        unexpected: Number of other files that count as left out: unknown extensions, dead links.
    """

    folder: str
    description: str
    images: Sequence[ImageFacts]
    classes: Sequence[str] | None
    unexpected: int

    @property
    def unreadable(self) -> list[ImageFacts]:
        """The images that cannot be read."""
        return [each for each in self.images if each.error]

    @property
    def readable(self) -> list[ImageFacts]:
        """The images that can be read."""
        return [each for each in self.images if not each.error]


def look_at(path: str) -> ImageFacts:
    """Read an image file wholly, as a data set does."""
    try:
        with open(path, 'rb') as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        return ImageFacts(path, error.strerror or str(error))
    try:
        LoadImage(channels=3)({'img_path': path})
        with Image.open(path) as image:
            return ImageFacts(path, '', digest, (image.height, image.width), image.mode, image.format or '')
    except CorruptImage as error:
        return ImageFacts(path, ' '.join(str(error).split()), digest)


def inspect_folder(folder: str, labeled: bool = True, workers: int = 0) -> FolderFacts:
    """Read all images below a folder.

    Args:
        folder: The folder.
        labeled: Whether sub-folders are read as classes, where they look like it.
        workers: Processes that read; 0 reads in this one.

    Raises:
        DataError: If the folder is missing or holds no image, or its sub-folders cannot be classes.
    """
    dataset = ImageFolder(folder, with_label='auto' if labeled else False, max_left_out=1)
    infos = [dataset.get_data_info(number) for number in range(len(dataset))]
    names = dataset.classes
    labels = None if dataset.labels() is None or names is None else [names[info['gt_label']] for info in infos]
    progress, found = Progress(f'reading {folder}', len(infos)), []
    for each in _looked_at([info['img_path'] for info in infos], workers):
        found.append(each)
        progress.step()
    return FolderFacts(folder, dataset.describe(), found, labels, dataset.left_out.unexpected)


def _looked_at(paths: Sequence[str], workers: int) -> Iterator[ImageFacts]:
    if workers < 1:
        yield from map(look_at, paths)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(look_at, paths, chunksize=_CHUNK)


def copies_of(folders: Iterable[FolderFacts]) -> list[list[tuple[FolderFacts, int]]]:
    """Groups of files with the same bytes, each as folder and number of the image in it."""
    groups = defaultdict(list)
    for folder in folders:
        for number, each in enumerate(folder.images):
            if each.sha256 and not each.error:
                groups[each.sha256].append((folder, number))
    return [group for group in groups.values() if len(group) > 1]


def facts_text(folder: FolderFacts) -> str:
    """What was found, as lines of text."""
    lines = [f'{folder.folder}: {folder.description}']
    readable = folder.readable
    if readable:
        sides = np.array([each.size for each in readable])
        shorter = np.sort(sides.min(1))
        lines.append(
            f'  shorter side: {shorter[0]} to {shorter[-1]} px, median {int(np.median(shorter))}; '
            f'widest proportions {float((sides.max(1) / sides.min(1)).max()):.1f} : 1'
        )
        formats, modes = (_counted(getattr(each, name) for each in readable) for name in ('kind', 'mode'))
        lines.append(f'  formats: {formats}; modes: {modes}')
    wrong = folder.unreadable
    if wrong:
        lines.append(f'  {len(wrong):,} cannot be read:')
        lines += [f'    {each.path}: {each.error}' for each in wrong[:_NAMED]]
        lines += [f'    and {len(wrong) - _NAMED:,} more'] if len(wrong) > _NAMED else []
    return '\n'.join(lines)


def copies_text(groups: Sequence[Sequence[tuple[FolderFacts, int]]]) -> str:
    """What was found about copies, as lines of text; empty if there are none."""
    lines = []
    across = [group for group in groups if len({folder.folder for folder, _ in group}) > 1]
    mixed = [group for group in groups if len({_class(*each) for each in group}) > 1 and group not in across]
    for found, words in (
        (across, 'images are in more than one of the folders'),
        (mixed, 'images are in more than one class'),
    ):
        lines += _shown(found, words) if found else []
    rest = [group for group in groups if group not in across and group not in mixed]
    extra = sum(len(group) - 1 for group in rest)
    lines += [f'{extra:,} files are copies of others in their class', *_shown(rest, '')[1:]] if rest else []
    return '\n'.join(lines)


def as_rows(folder: FolderFacts) -> list[dict[str, Any]]:
    """One plain dict per image, for a JSON file."""
    classes: Sequence[str | None] = folder.classes or [None] * len(folder.images)
    return [
        {
            'path': each.path,
            'class': name,
            'error': each.error,
            'sha256': each.sha256,
            'height': each.size[0],
            'width': each.size[1],
            'mode': each.mode,
            'format': each.kind,
        }
        for each, name in zip(folder.images, classes)
    ]


def _class(folder: FolderFacts, number: int) -> str:
    return '' if folder.classes is None else folder.classes[number]


def _shown(groups: Sequence[Sequence[tuple[FolderFacts, int]]], words: str) -> list[str]:
    lines = [f'{len(groups):,} {words}']
    for group in groups[:_NAMED]:
        lines.append('    ' + ' = '.join(folder.images[number].path for folder, number in group[:_NAMED]))
    return lines


def _counted(values: Iterable[str]) -> str:
    return ', '.join(f'{name} {count:,}' for name, count in Counter(values).most_common())
