"""``--data-root``: another folder for all data sets of a config, also where the config reads another kind of data."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.datasets.layout import split_pair
from mmselfsup_graft.datasets.scanning import subfolders
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATASETS, SCOPE

_LOADERS = {'train_dataloader': 'train', 'val_dataloader': 'test', 'test_dataloader': 'test'}
_SCORED = {'train': 'train', 'augmented': 'train', 'test': 'test'}
_OWN_FILES = {'FashionMNIST': ('-ubyte', '-ubyte.gz'), 'CIFAR': ('.bin',)}
_OF_IMAGENET = ('split', 'ann_file')  # options that a plain folder does not have, or means in another way


class DataSet(NamedTuple):
    """A data set in a config: its place, what it is for (``train`` or ``test``), and its dict."""

    place: str
    role: str
    node: Any


def data_sets_of(cfg: Config) -> Iterator[DataSet]:
    """The data sets of a config that are trained, validated, tested or scored on."""
    for name, role in _LOADERS.items():
        node = (cfg.get(name) or {}).get('dataset')
        if isinstance(node, dict) and 'type' in node:
            yield DataSet(f'{name}.dataset', role, node)
    for name, role in _SCORED.items():
        node = (cfg.get('evaluation') or {}).get(name)
        if isinstance(node, dict) and 'type' in node:
            yield DataSet(f'evaluation.{name}', role, node)


def set_data_root(cfg: Config, data_root: str | os.PathLike) -> list[str]:
    """Read all data sets of a config from this folder, in place.

    ``train/`` beside ``val/`` or ``test/`` are read as such. An ``ImageNet`` without that layout becomes an
    ``ImageFolder``: scoring and fine-tuning then hold out a fixed fifth of every class. A classifier gets as many
    classes as the folder has.

    Args:
        cfg: A checked config.
        data_root: Folder.

    Returns:
        What was changed besides the folder, one line each.

    Raises:
        ConfigError: If it is not a folder, or a data set of the config cannot be read from a folder.
        DataError: If a classifier is trained and the folder has no classes.
    """
    found = list(data_sets_of(cfg))
    if not found:
        raise ConfigError('--data-root: this config has no data set; see configs/*/*folder*')
    remote = '://' in str(data_root) and all(_kind(each) == 'TarShards' for each in found)
    root = os.fspath(data_root) if remote else str(Path(data_root).expanduser().resolve())
    if not remote and not os.path.isdir(root):
        raise ConfigError(f'--data-root {data_root}: no such folder; it takes a folder of images')
    notes = dict.fromkeys(note for each in found for note in _move(cfg, each, root))
    return [*notes, *_fit_classifier(cfg)]


def _kind(found: DataSet) -> str:
    return str(found.node['type']).removeprefix(f'{SCOPE}.')


def splits_of(root: str) -> tuple[str, str | None] | None:
    """The training folder of a data set and the held-out one, None if there is none; None if there are no splits."""
    return split_pair(subfolders(root))


def _move(cfg: Config, found: DataSet, root: str) -> list[str]:
    """Set the folder of one data set; returns notes."""
    kind = _kind(found)
    pair = None if '://' in root else splits_of(root)
    if kind in ('ImageFolder', 'RawShards') or (kind == 'ImageNet' and pair != ('train', 'val')):
        return read_folder(cfg, found, root, pair)
    fits = {
        'ImageNet': True,
        'TarShards': True,
        'ImageList': pair is not None,
        **{name: kind == name and _holds(root, endings) for name, endings in _OWN_FILES.items()},
    }
    if not fits.get(kind, False):
        raise ConfigError(_refusal(cfg, kind, root))
    found.node.data_root = root
    return []


def read_folder(cfg: Config, found: DataSet, root: str, pair: tuple[str, str | None] | None) -> list[str]:
    """Read one data set from a folder, in place; ``pair`` are its training and held-out splits. Returns notes."""
    node, notes = found.node, []
    if _kind(found) == 'ImageNet':
        for key in _OF_IMAGENET:
            node.pop(key, None)
        node.type = 'ImageFolder'
        if found.place != 'train_dataloader.dataset' or cfg.get('val_dataloader'):
            node.subset = found.role
            notes.append('a fifth of every class is held out for scoring' if pair is None or not pair[1] else '')
        notes.insert(0, f'{root} is not laid out as ImageNet (train/, val/): read as a folder of images')
    node.data_root = root
    if pair is not None:
        train, held = pair
        node.split = held if held and found.role == 'test' else train
        if held:
            node.pop('subset', None)
        notes.append(f'training images: {train}/' + (f', scoring images: {held}/' if held else ''))
    return [note for note in notes if note]


def _holds(root: str, endings: tuple[str, ...]) -> bool:
    places = [root, *(os.path.join(root, name) for name in subfolders(root))]
    return any(name.endswith(endings) for place in places for name in os.listdir(place))


def _refusal(cfg: Config, kind: str, root: str) -> str:
    beside = sorted(Path(cfg.filename).parent.glob('*folder*.py')) if cfg.filename else []
    others = ', '.join(map(str, beside)) or 'configs/*/*folder*'
    return (
        f'--data-root {root}: the {kind} of this config cannot be read from a folder of images; take a config for '
        f'folders: {others}'
    )


def _fit_classifier(cfg: Config) -> list[str]:
    """Give a classifier as many classes as its training data."""
    head: Any = (cfg.get('model') or {}).get('head') or {}
    if 'num_classes' not in head:
        return []
    train = DATASETS.build(cfg.train_dataloader.dataset)
    if not isinstance(train, SelfSupDataset) or train.labels() is None or not train.classes:
        return []
    count = len(train.classes)
    for evaluator in ('val_evaluator', 'test_evaluator'):
        metric: Any = cfg.get(evaluator) or {}
        if 'topk' in metric:
            metric.topk = tuple(k for k in metric.topk if k < count) or (1,)
    if head.num_classes == count:
        return []
    head.num_classes = count
    if 'num_classes' in (cfg.get('data_preprocessor') or {}):
        cfg.data_preprocessor.num_classes = count
    return [f'the classifier has {count} classes']
