"""Conflict of the objectives of a multi-task model while it trains."""

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import HOOKS

from .measure import ConflictProfile, measure_conflict


@HOOKS.register_module()
class GradientConflictHook(Hook):
    """Measure the cosine of the objectives' gradients per layer at intervals, see :mod:`mmselfsup_graft.analysis`.

    Each measurement is one more forward and backward pass per objective on the batch just trained on, in full
    precision. Training is not changed: gradients, batch-norm statistics, momentum encoder and random
    numbers are restored. Written to ``gradient_conflict.csv`` in the work directory;
    ``tools/analysis_tools/gradient_conflict.py --csv`` draws it. The cosine over the whole encoder is logged as
    ``conflict_<first>_<second>``.

    Args:
        interval: Iterations between two measurements.

    Raises:
        ConfigError: If the model does not have several objectives.
    """

    priority = 'LOW'
    needs_whole_weights = True

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ConfigError(f'GradientConflictHook: interval must be at least 1, got {interval}')
        self.interval = interval
        self.profile = ConflictProfile()

    def before_train(self, runner: Runner) -> None:
        """Load the measurements up to the checkpoint that a run is resumed from."""
        model = unwrapped_model(runner)
        if not hasattr(model, 'objective_losses'):
            raise ConfigError(f'GradientConflictHook needs a MultiTask model, got {type(model).__name__}; remove it')
        path = self._path(runner)
        if runner.iter and path.is_file():
            rows = ConflictProfile.read_csv(path).rows
            self.profile = ConflictProfile([row for row in rows if row.iteration < runner.iter])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Measure on this batch at the interval."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = unwrapped_model(runner)
        with torch.random.fork_rng():
            inputs = model.data_preprocessor(data_batch, True)['inputs']
            rows = measure_conflict(model, inputs, runner.iter)
        self.profile.rows += rows
        for row in rows:
            if row.group == 'all':
                runner.message_hub.update_scalar(f'train/conflict_{row.first}_{row.second}', row.cosine)
        if is_main_process():
            self.profile.write_csv(self._path(runner))

    @staticmethod
    def _path(runner: Runner) -> Path:
        return Path(runner.work_dir) / 'gradient_conflict.csv'
