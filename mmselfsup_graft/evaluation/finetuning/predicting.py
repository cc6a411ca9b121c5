"""Classes of new images, by a fine-tuned classifier."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.datasets.scanning import scan_folder
from mmselfsup_graft.datasets.transforms import CorruptImage, build_pipeline
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.errors import CheckpointError, ConfigError, DataError
from mmselfsup_graft.evaluation.whole_model import load_model
from mmselfsup_graft.utils.progress import Progress

_BATCH = 64


class Prediction(NamedTuple):
    """Classes of one image, the most probable first, as (name, probability); none and the reason if unreadable."""

    image: str
    classes: tuple[tuple[str, float], ...]
    problem: str = ''


def predict(
    checkpoint: str | os.PathLike,
    images: str | os.PathLike | Sequence[str | os.PathLike],
    config: str | os.PathLike | None = None,
    top: int = 3,
) -> list[Prediction]:
    """Classify images by a fine-tuned classifier, with the test pipeline of its config.

    Args:
        checkpoint: ``best_*.pth`` or ``epoch_*.pth`` of ``tools/finetune.py``.
        images: Image files, and folders that are searched for images.
        config: Config of the fine-tuning; default: the one that the run wrote beside the checkpoint.
        top: Number of classes for each image.

    Returns:
        One entry per image, in the order given; folders in the order of their paths.

    Raises:
        ConfigError: If there is no config, or it is not of a classifier.
        CheckpointError: If the file does not fit the config.
        DataError: If there are no images, or a path does not exist.
    """
    if top < 1:
        raise ConfigError(f'the number of classes per image must be at least 1, got {top}')
    given = [images] if isinstance(images, str | os.PathLike) else list(images)
    paths = [path for each in given for path in _files(Path(each))]
    if not paths:
        raise DataError('no images to classify; give files or folders')
    cfg = load_config(config or written_config(checkpoint))
    if str(cfg.model.get('type', '')).rpartition('.')[2] != 'GraftedClassifier' or not cfg.get('test_dataloader'):
        raise ConfigError(
            f'predictions need the config of a fine-tuned classifier, got model.type {cfg.model.get("type")}; see '
            'tools/finetune.py'
        )
    cfg.model.head.pop('projector', None)  # its weights are in the checkpoint
    cfg.model.pop('train_cfg', None)
    model = load_model(cfg, Path(checkpoint)).to('cuda' if torch.cuda.is_available() else 'cpu')
    return list(_classify(model, cfg, paths, class_names(checkpoint, cfg), top))


def written_config(checkpoint: str | os.PathLike) -> Path:
    """The newest config beside a checkpoint, which the training wrote.

    Raises:
        ConfigError: If there is none.
    """
    found = sorted(Path(checkpoint).parent.glob('*.py'), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ConfigError(f'no config beside {checkpoint}; name the config of the fine-tuning')
    return found[-1]


def class_names(checkpoint: str | os.PathLike, cfg: Config) -> list[str]:
    """Names of the classes that a checkpoint keeps, else their numbers.

    Raises:
        CheckpointError: If their number is not that of the config's head.
    """
    count = cfg.model.head.num_classes
    stored = ((read_checkpoint(checkpoint).get('meta') or {}).get('dataset_meta') or {}).get('classes')
    names = [str(name) for name in stored] if isinstance(stored, list | tuple) else list(map(str, range(count)))
    if len(names) != count:
        raise CheckpointError(f'{checkpoint} keeps {len(names)} names of classes, the head of the config has {count}')
    return names


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [path / name for name in scan_folder(str(path)).paths]
    if not path.exists():
        raise DataError(f'{path}: no such file or folder')
    return [path]


@torch.no_grad()
def _classify(model: Any, cfg: Config, paths: Sequence[Path], names: Sequence[str], top: int) -> Iterator[Prediction]:
    pipeline = Compose(build_pipeline(cfg.test_dataloader.dataset.pipeline))
    progress = Progress('classifying', len(paths))
    for start in range(0, len(paths), _BATCH):
        chunk = paths[start : start + _BATCH]
        samples, problems = {}, {}
        for path in chunk:
            try:
                samples[path] = pipeline({'img_path': str(path)})
            except CorruptImage as error:
                problems[path] = str(error)
        found = model.test_step(default_collate(list(samples.values()))) if samples else []
        scores = dict(zip(samples, (each.pred_score for each in found)))
        for path in chunk:
            if path in problems:
                yield Prediction(str(path), (), problems[path])
                continue
            best = scores[path].topk(min(top, len(names)))
            pairs = zip(best.indices.tolist(), best.values.tolist())
            yield Prediction(str(path), tuple((names[number], value) for number, value in pairs))
        progress.step(len(chunk))
