"""Data of a recipe's stages: another folder, the share that may be left out, a batch that fits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmselfsup_graft.datasets.skipped_files import check_share
from mmselfsup_graft.engine.config.data_root import data_sets_of, read_folder, splits_of
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATASETS


def set_data_root(path: Path, configs: Sequence[Config], data_root: str) -> None:
    """Set the folder of every data set of a recipe that reads one; ``train/`` beside ``val/`` are read as such.

    Raises:
        ConfigError: If none reads a folder.
    """
    with_root = [(cfg, found) for cfg in configs for found in data_sets_of(cfg) if 'data_root' in found.node]
    if not with_root:
        raise ConfigError(f'--data-root: no data set of recipe {path} reads a folder; use the recipe for folders')
    root = str(Path(data_root).resolve())
    for cfg, found in with_root:
        if str(found.node.type).rpartition('.')[2] == 'ImageFolder':
            read_folder(cfg, found, root, splits_of(root))
        else:
            found.node.data_root = root


def allow_left_out(configs: Sequence[Config], share: float) -> None:
    """Set the share of the files that every data set of a recipe may leave out.

    Raises:
        ConfigError: If it is not a number between 0 and 1.
    """
    check_share(share, '--max-left-out')
    for cfg in configs:
        for found in data_sets_of(cfg):
            found.node.max_left_out = share


def without_limits(value: Any) -> Any:
    """A copy of a config without ``max_left_out``, which does not change the data that is read."""
    if isinstance(value, dict):
        return {key: without_limits(item) for key, item in value.items() if key != 'max_left_out'}
    if isinstance(value, list | tuple):
        return [without_limits(item) for item in value]
    return value


def train_on_unlabeled(cfg: Config) -> str | None:
    """Hold out no images of a folder without labels, in place: nothing could be scored on them.

    Returns:
        A note on the change; None if nothing was changed.
    """
    data = cfg.train_dataloader.dataset
    if data.get('subset') != 'train':
        return None
    whole = DATASETS.build({**data, 'subset': 'all'})
    if whole.labels() is not None:
        return None
    data.subset = 'all'
    return f'no labels, so nothing can be scored: no image is held out, all {len(whole):,} are trained on'


def is_held_out(cfg: Config) -> bool:
    """Whether the test images of a config are not trained on, see :func:`train_on_unlabeled`."""
    test = cfg.evaluation.test
    return test.get('subset') != 'test' or DATASETS.build(test).labels() is not None


def fit_batch(cfg: Config, processes: int) -> str | None:
    """Lower the batch of a stage, in place, if there are fewer images than one batch, as there would be no step.

    Args:
        cfg: Its ``train_dataloader`` leaves out incomplete batches, or nothing is changed.
        processes: Number of processes that share the images.

    Returns:
        A note on the change; None if nothing was changed.
    """
    loader = cfg.train_dataloader
    size = loader.get('batch_size')
    if not loader.get('drop_last') or not isinstance(size, int):
        return None
    images = len(DATASETS.build(loader.dataset))
    fitting = images // processes
    if not 0 < fitting < size:
        return None
    loader.batch_size = fitting
    shared = f' for {processes} processes' if processes > 1 else ''
    return f'only {images} training images{shared}: batch lowered from {size} to {fitting}, learning rate unchanged'


def refuse_out_dir(cfg: Config, owner: str) -> None:
    """Raise an error for checkpoints outside of a stage's folder, where later stages would not find them.

    Raises:
        ConfigError: If ``default_hooks.checkpoint.out_dir`` is set.
    """
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    if hook.get('out_dir'):
        raise ConfigError(
            f'{owner}: default_hooks.checkpoint.out_dir is {hook["out_dir"]!r}, but the stages of a recipe keep their '
            'checkpoints in their own folders; leave it out, and choose the folder with --work-dir'
        )
