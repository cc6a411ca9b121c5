"""k-NN accuracy of the encoder during pre-training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmselfsup_graft.datasets.classes import share_classes
from mmselfsup_graft.datasets.seeding import preserved_random_state
from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.protocols.names import make_protocol, score_features
from mmselfsup_graft.models.eval_mode import eval_mode
from mmselfsup_graft.registry import DATASETS, HOOKS
from mmselfsup_graft.utils.files import append_rows

from .backbones import BlockFeature
from .features import extract_features
from .pooling import check_features


@HOOKS.register_module()
class KNNHook(Hook):
    """Score ``model.backbone`` by k-NN every few epochs, for monitoring only.

    The accuracy is logged, stored in mmengine's message hub as ``val/knn`` and, as a separate line, written to the
    run's ``history.jsonl``. Loss, weights and random state are not changed: a run ends with the same bits with or
    without it.

    Over ranks: extraction is shared, the first process scores.

    Args:
        train: Config of a labeled data set to look for neighbors in; its pipeline must not augment.
        test: Config of a labeled data set to score on.
        interval: Epochs between two scores; the last epoch is always scored.
        knn: Settings of :class:`KNNProtocol`.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
        feature: Feature of the encoder, see :data:`mmselfsup_graft.evaluation.FEATURES`; None is its own.
        block: Take the feature after this number of blocks; None for the final feature.

    Raises:
        ConfigError: If ``knn`` holds unknown keys or values, or the model has no backbone or no such block.
        DataError: If a data set has no labels, or the test data has a class that is not in the training data.
    """

    priority = 'BELOW_NORMAL'  # before the checkpoint, so that a resumed run's history has the line
    needs_whole_weights = True

    def __init__(
        self,
        train: dict,
        test: dict,
        interval: int = 1,
        knn: dict | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
        feature: str | None = None,
        block: int | None = None,
    ) -> None:
        if interval < 1:
            raise ConfigError(f'KNNHook: interval must be at least 1, got {interval}')
        self.protocol = make_protocol('knn', knn or {}, 'KNNHook.knn')
        self.configs, self.interval = (train, test), interval
        self.extraction, self.block = (batch_size, num_workers, feature), block
        self._datasets: list[Any] = []

    @contextmanager
    def _encoder(self, backbone: nn.Module) -> Iterator[nn.Module]:
        """The encoder, or its first blocks; the training keeps no outputs of a block."""
        if self.block is None:
            yield backbone
            return
        cut = BlockFeature(backbone, self.block)
        try:
            yield cut
        finally:
            cut.release()

    def before_train(self, runner: Runner) -> None:
        """Build the data sets, so that errors are raised before the training."""
        model = unwrapped_model(runner)
        if not isinstance(getattr(model, 'backbone', None), nn.Module):
            raise ConfigError(f'KNNHook: {type(model).__name__} has no backbone to score')
        feature = self.extraction[2]
        with self._encoder(model.backbone) as encoder:
            check_features(encoder, None if feature is None else [feature])
        with preserved_random_state(), torch.random.fork_rng():
            self._datasets = [DATASETS.build(config) for config in self.configs]
            for name, dataset in zip(('train', 'test'), self._datasets):
                if dataset.labels() is None:
                    raise DataError(f'KNNHook.{name} has no labels: put the images into one sub-folder per class')
            share_classes(self._datasets[0], {'KNNHook.test': self._datasets[1]})
            if is_main_process():
                for name, dataset in zip(('train', 'test'), self._datasets):
                    runner.logger.info(f'KNNHook.{name}: {dataset.describe()}')

    def after_train_epoch(self, runner: Runner) -> None:
        """Score and write."""
        if not (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            return
        model = unwrapped_model(runner)
        with preserved_random_state(), torch.random.fork_rng(), eval_mode(model.backbone):
            with self._encoder(model.backbone) as encoder:
                sets = [
                    extract_features(encoder, model.data_preprocessor, dataset, *self.extraction)
                    for dataset in self._datasets
                ]
            if not is_main_process():
                return
            accuracy = score_features(sets[0], sets[1], self.protocol)['accuracy']
        runner.message_hub.update_scalar('val/knn', accuracy)
        runner.logger.info(f'k-NN after epoch {runner.epoch + 1}: {accuracy:.2f} %')
        row = {'iter': runner.iter - 1, 'epoch': runner.epoch, 'knn': accuracy}
        append_rows(Path(runner.work_dir) / 'history.jsonl', [row])
