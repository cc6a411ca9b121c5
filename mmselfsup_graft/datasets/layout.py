"""Folders that look like classes but are splits, parts of an annotated data set, or dates."""

import os
import re
from collections.abc import Iterable

from mmselfsup_graft.errors import DataError

_TRAIN = ('train', 'training', 'trn')
_HELD = ('val', 'valid', 'validation', 'test', 'testing', 'tst', 'eval', 'evaluation', 'dev', 'holdout')
_SPLIT = re.compile(
    rf'(?:(?P<train>{"|".join(_TRAIN)})|(?P<held>{"|".join(_HELD)}))'
    r'(?:[-_ ]?(?:\d{1,4}|sets?|images?|imgs?|data|split))?',
    re.IGNORECASE,
)
# numbered parts of one set
_NUMBERED = re.compile(r'(?:fold|split|part|batch|chunk|shard)[-_ ]?\d{1,4}', re.IGNORECASE)
_PREFIX = re.compile(r'(?P<prefix>\w+?[-_ ])(?P<rest>.+)')
_PICTURES = {'images', 'image', 'imgs', 'img', 'jpegimages', 'pictures', 'photos', 'rgb'}
_ANNOTATIONS = {
    *('labels', 'label', 'annotations', 'annotation', 'anns', 'masks', 'mask', 'segmentation', 'segmentations'),
    *('segmentationclass', 'segmentationobject', 'imagesets', 'gt', 'groundtruth', 'ground_truth', 'bboxes'),
}
_DAY, _MONTH, _YEAR = r'(?:0[1-9]|[12]\d|3[01])', r'(?:0[1-9]|1[0-2])', r'(?:19|20)\d\d'
# a year, a month or a day; albums may have a name after the day
_DATE = re.compile(
    rf'{_YEAR}(?:[-_.]?{_MONTH}(?:[-_.]?{_DAY}(?:[-_. ].*)?)?)?|{_DAY}[-_.]{_MONTH}[-_.]{_YEAR}',
    re.DOTALL,
)
_ANYWAY = 'any_folder_is_class=True uses them as classes'


def split_folders(names: Iterable[str]) -> list[str]:
    """Return the folders that are splits of a data set.

    That is the case if all have names of splits, if one is for training and one held out, also after a common word
    (``cars_train`` and ``cars_val``), or if all are numbered parts (``fold1``, ``fold2``).
    """
    listed = list(names)
    if listed and all(_NUMBERED.fullmatch(name) for name in listed):
        return sorted(listed)
    found = _splits({name: name for name in listed})
    if found:
        return found
    parted = {name: match for name in listed if (match := _PREFIX.fullmatch(name))}
    for prefix in {match['prefix'] for match in parted.values()}:
        found = _splits({name: match['rest'] for name, match in parted.items() if match['prefix'] == prefix}, both=True)
        if found:
            return found
    return []


def _splits(names: dict[str, str], both: bool = False) -> list[str]:
    """Folder -> part of the name that identifies the split; ``both``: training and held-out folders must exist."""
    matches = {name: _SPLIT.fullmatch(part) for name, part in names.items()}
    splits = {name: match for name, match in matches.items() if match}
    pair = any(match['train'] for match in splits.values()) and any(match['held'] for match in splits.values())
    return sorted(splits) if pair or (splits and not both and len(splits) == len(matches)) else []


def split_pair(names: Iterable[str]) -> tuple[str, str | None] | None:
    """Return the training folder and the held-out one of a data set that consists of splits; ``val`` comes first.

    Returns:
        Both names, the second None if there is only the training folder; None if the folders are not splits.
    """
    listed = list(names)
    found = split_folders(listed)
    train = [name for name in found if name.lower() in _TRAIN]
    held = [name for wanted in _HELD for name in found if name.lower() == wanted]
    if not train or (len(found) < len(listed) and not held):
        return None
    return train[0], held[0] if held else None


def is_split(name: str) -> bool:
    """Whether a folder has the name of a split."""
    return _SPLIT.fullmatch(name) is not None


def training_names(folder: str) -> list[str]:
    """Return the paths at which the training split may lie beside a held-out one; none if ``folder`` is not one."""
    parent, name = os.path.split(os.path.normpath(folder))
    match = _SPLIT.fullmatch(name)
    if match is None or not match['held']:
        return []
    return [os.path.join(parent, f'{train}{name[len(match["held"]) :]}') for train in ('train', 'Train', 'training')]


def annotation_folders(names: Iterable[str]) -> list[str]:
    """Return the folders if they are exactly the images and the annotations of a data set."""
    lower = {name: name.lower() for name in names}
    pictures, annotations = ({n for n, low in lower.items() if low in known} for known in (_PICTURES, _ANNOTATIONS))
    return sorted(lower) if pictures and annotations and len(pictures | annotations) == len(lower) else []


def are_dates(names: Iterable[str]) -> bool:
    """Whether the names of all folders are years, months or days."""
    listed = list(names)
    return bool(listed) and all(_DATE.fullmatch(name) for name in listed)


def refuse_no_classes(root: str, holding: Iterable[str], empty: Iterable[str]) -> None:
    """Raise an error for folders that are not classes.

    Args:
        root: The folder they lie in, for the message.
        holding: Folders with an image.
        empty: Folders without.

    Raises:
        DataError: They are splits, or images and their annotations.
    """
    names, root = list(holding), os.path.normpath(root)
    splits = split_folders(names)
    if splits:
        raise DataError(
            f'the folders {", ".join(splits)} of {root!r} are splits, not classes; read one of them (split='
            f'{splits[0]!r}, or that folder as data root; --data-root reads train and val as such), or all without '
            f'labels (with_label=False). {_ANYWAY}'
        )
    parts = annotation_folders([*names, *empty])
    if parts:
        raise DataError(
            f'the folders {", ".join(parts)} of {root!r} hold images and their annotations, not classes; give the '
            f'folder of the images as data root, or read without labels (with_label=False). {_ANYWAY}'
        )
