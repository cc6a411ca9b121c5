"""Indicators of collapse in the log."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.joint_views import last_view
from mmselfsup_graft.registry import HOOKS

from .measure import effective_rank, feature_std, mean_cosine

_INDICATORS = {'std': feature_std, 'rank': effective_rank, 'cosine': mean_cosine}


@HOOKS.register_module()
class CollapseHook(Hook):
    """Log how much the features of different images differ, see :mod:`mmselfsup_graft.analysis.collapse.measure`.

    ``<part>_std`` (about 1 healthy, 0 collapsed), ``<part>_rank`` and ``<part>_cosine`` of the last view that passed
    each part, one feature per image, of this process's share of the batch. They are logged and written to
    ``history.jsonl``; loss, weights and random numbers are not changed.

    Args:
        interval: Iterations between two measurements.
        parts: Names of sub-modules whose outputs are measured.

    Raises:
        ConfigError: If the model has no such part or the interval is less than 1.
    """

    priority = 'HIGHEST'  # adds to the outputs before they are logged

    def __init__(self, interval: int = 50, parts: Sequence[str] = ('backbone', 'neck')) -> None:
        if interval < 1:
            raise ConfigError(f'CollapseHook: interval must be at least 1, got {interval}')
        self.interval = interval
        self.parts = tuple(parts)
        self._seen: dict[str, torch.Tensor] = {}
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Register hooks on the parts."""
        model = unwrapped_model(runner)
        modules = dict(model.named_modules())
        for part in self.parts:
            if part not in modules:
                raise ConfigError(f'CollapseHook: {type(model).__name__} has no part {part!r}; set parts=[...]')
            self._handles.append(modules[part].register_forward_hook(self._remember(part)))

    def _remember(self, part: str) -> Any:
        def remember(_module: nn.Module, _arguments: Any, output: Any) -> None:
            feature = output[-1] if isinstance(output, list | tuple) else output
            self._seen[part] = last_view(feature.detach())

        return remember

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Add the indicators to what is logged of this iteration."""
        if outputs is not None and self.every_n_train_iters(runner, self.interval):
            for part, feature in self._seen.items():
                feature = feature.flatten(2).mean(2) if feature.dim() == 4 else feature  # [B, D]
                for name, indicator in _INDICATORS.items() if len(feature) > 1 else ():
                    outputs[f'{part}_{name}'] = indicator(feature)
        self._seen.clear()

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
