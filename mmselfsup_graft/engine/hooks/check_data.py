"""Description of a run's data sets, and one list of classes for all of them and the classifier."""

from collections.abc import Mapping
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmpretrain.models import BaseClassifier
from torch import nn
from torch.utils.data import DataLoader

from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.datasets.classes import are_numbers, share_classes, shown
from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import CheckpointError, ConfigError, DataError, GraftError
from mmselfsup_graft.models.key_queue import KeyQueue
from mmselfsup_graft.registry import DATASETS, HOOKS

_NAMES = {'train': 'training', 'val': 'validation', 'test': 'test'}


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Log a description of the data sets, and number the labels of validation and test data as in the training data.

    A classifier (a model with ``head.num_classes``) must have as many classes as the training data; its checkpoint
    keeps their names (mmengine's ``dataset_meta``), by which a later test or a resumed run numbers its labels. Models
    and data sets of other libraries are left alone. :class:`GraftRunner` has it in every run.

    Raises:
        ConfigError: If head or data preprocessor have another number of classes than the training data, or the last
            batch of an epoch has fewer images than the model needs, or batches do not fit a queue.
        CheckpointError: When resuming a classifier on other classes.
        DataError: If validation or test data have a class that is not in the training data.
    """

    priority = 'VERY_HIGH'  # before labels are used

    def __init__(self) -> None:
        self._trained: tuple[str, ...] | None = None
        self._described: set[str] = set()

    def before_run(self, runner: Runner) -> None:
        """Describe the data sets that are built; check the classifier; share the classes."""
        if isinstance(runner._train_loop, BaseLoop):
            check_last_batch(unwrapped_model(runner), runner.train_dataloader, runner.world_size)
            check_queues(unwrapped_model(runner), runner.train_dataloader, runner.world_size)
        found = self._built(runner)
        train = found.get('train')
        if train is not None:
            check_num_classes(unwrapped_model(runner), train)
            share_classes(train, {name: found[name] for name in ('val', 'test') if name in found})
        for name in found if train is not None else ():  # otherwise the classes are unknown so far
            self._describe(runner, name, found[name])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the classes that a classifier was trained on; raise an error when resuming on others."""
        if _heads_classes(unwrapped_model(runner)) is None:
            return
        names = _stored_classes(checkpoint.get('meta', {}).get('dataset_meta'))
        train = self._built(runner).get('train')
        own = None if train is None else train.classes
        if runner._resume and names is not None and own is not None and names != own:
            raise CheckpointError(
                f'cannot resume: the checkpoint was trained on {shown(names)}, the training data has {shown(own)}; '
                'use the same data, or start a new run'
            )
        self._trained = names

    def before_val(self, runner: Runner) -> None:
        """Number the labels of the validation data."""
        self._share(runner, 'val')

    def before_test(self, runner: Runner) -> None:
        """Number the labels of the test data."""
        self._share(runner, 'test')

    def _share(self, runner: Runner, name: str) -> None:
        found = self._built(runner)
        if name not in found:
            return
        if 'train' in found:
            share_classes(found['train'], {name: found[name]})
        elif _heads_classes(unwrapped_model(runner)) is not None:
            names = self._trained or _classes_to_train_on(runner)
            if names is not None:
                found[name].use_classes(names, f'the {name} data')
        self._describe(runner, name, found[name])

    def _describe(self, runner: Runner, name: str, dataset: SelfSupDataset) -> None:
        if is_main_process() and name not in self._described:
            runner.logger.info(f'{_NAMES[name]} data: {dataset.describe()}')
        self._described.add(name)

    def _built(self, runner: Runner) -> dict[str, SelfSupDataset]:
        """Data sets of this toolbox that the runner has built, by loop."""
        loops: Mapping[str, Any] = {'train': runner._train_loop, 'val': runner._val_loop, 'test': runner._test_loop}
        datasets = {name: loop.dataloader.dataset for name, loop in loops.items() if isinstance(loop, BaseLoop)}
        return {name: dataset for name, dataset in datasets.items() if isinstance(dataset, SelfSupDataset)}


def _classes_to_train_on(runner: Runner) -> tuple[str, ...] | None:
    """Classes of the training data of a config that is only tested; None if unavailable."""
    config = (runner.cfg.get('train_dataloader') or {}).get('dataset')
    try:
        train = None if config is None else DATASETS.build(config)
    except GraftError as error:
        runner.logger.warning(
            f'the checkpoint does not name its classes, and the training data cannot be read ({error}): labels are '
            'numbered by the classes of the test data'
        )
        return None
    return train.classes if isinstance(train, SelfSupDataset) and train.labels() is not None else None


def _stored_classes(meta: Any) -> tuple[str, ...] | None:
    """Names of the classes in the ``dataset_meta`` of a checkpoint; None if it has none.

    Raises:
        CheckpointError: If they are not a list of texts.
    """
    names = meta.get('classes') if isinstance(meta, dict) else meta
    if names is None:
        return None
    if not isinstance(names, list | tuple) or not all(type(each) is str for each in names):
        raise CheckpointError(
            'the classes of the checkpoint (meta.dataset_meta) are not a list of texts; the file is damaged, use '
            'another one'
        )
    return tuple(names) or None


def _heads_classes(model: nn.Module) -> int | None:
    """Number of classes of a classifier, None for other models."""
    head = getattr(model, 'head', None)
    value = getattr(head, 'num_classes', None) or getattr(getattr(head, 'fc', None), 'out_features', None)
    return value if isinstance(value, int) else None


def check_num_classes(model: nn.Module, train: SelfSupDataset) -> None:
    """Compare a classifier with the classes of its training data.

    For numbered classes only the highest number is known, and a classifier may have more.

    Raises:
        ConfigError: If they do not match.
        DataError: If the data of a classifier have no labels.
    """
    if isinstance(model, BaseClassifier) and train.labels() is None:
        raise DataError(
            'a classifier needs labeled images: put them into one sub-folder per class. This data set: '
            f'{train.describe()}'
        )
    wanted, names = _heads_classes(model), train.classes
    if wanted is None or names is None or train.labels() is None:
        return
    mixed = getattr(getattr(model, 'data_preprocessor', None), 'num_classes', None)
    counts = {'model.head.num_classes': wanted, 'data_preprocessor.num_classes': mixed}
    for key, count in counts.items():
        fits = count is None or count == len(names) or (are_numbers(names) and count > len(names))
        if not fits:
            raise ConfigError(
                f'the training data has {shown(names)}, but {key} is {count}; set it: --cfg-options '
                f'model.head.num_classes={len(names)} data_preprocessor.num_classes={len(names)}'
            )


def check_last_batch(model: nn.Module, loader: DataLoader, world_size: int) -> None:
    """Compare the last batch of an epoch with what the model's objectives need (``fewest_images``).

    Raises:
        ConfigError: If it is smaller.
    """
    fewest = max((getattr(module, 'fewest_images', 1) for module in model.modules()), default=1)
    if loader.batch_size is None or loader.drop_last:
        return
    left = len(loader.sampler) % loader.batch_size  # type: ignore[arg-type]
    if left and left * world_size < fewest:
        raise ConfigError(
            f'{type(model).__name__} needs {fewest} images or more in a batch, but the last batch of every epoch would '
            f'have {left * world_size}: {len(loader.dataset):,} images in batches of {loader.batch_size}; leave it '  # type: ignore[arg-type]
            'out (train_dataloader.drop_last=True) or use another train_dataloader.batch_size'
        )


def check_queues(model: nn.Module, loader: DataLoader, world_size: int) -> None:
    """Compare the queues of keys in the model with the batches, see :meth:`KeyQueue.check_batches`.

    Raises:
        ConfigError: If they do not fit.
    """
    for queue in (module for module in model.modules() if isinstance(module, KeyQueue)):
        if loader.batch_size is not None:
            images = len(loader.sampler) * world_size  # type: ignore[arg-type]
            queue.check_batches(loader.batch_size * world_size, images, loader.drop_last)
