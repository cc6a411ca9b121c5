"""Schedule of the momentum encoder."""

import math
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import HOOKS


def cosine_momentum(base: float, progress: float) -> float:
    """Momentum ``1 - (1 - base) (1 + cos(pi progress)) / 2``: from ``base`` to 1 (MoCo v3).

    Args:
        base: Momentum at the beginning.
        progress: Share of the training that is done, in [0, 1].
    """
    return 1.0 - 0.5 * (1.0 + math.cos(math.pi * progress)) * (1.0 - base)


@HOOKS.register_module()
class MomentumScheduleHook(Hook):
    """Set the momentum of the model for the next iteration, with one update per optimizer step.

    Works on every part of the model with the attributes ``base_momentum``, ``momentum`` and ``update_due``: the model
    itself or the objectives inside it. With gradient accumulation only the first micro-batch of a step updates the
    moving average.

    Args:
        cosine: True raises the momentum to 1 by a half cosine over fractional epochs, False keeps ``base_momentum``,
            for all parts. None does for every part what its method does: ``constant_momentum`` (MoCo v1 and v2) keeps
            it, all others raise it.

    Raises:
        ConfigError: If the model has no such part.
    """

    priority = 'NORMAL'

    def __init__(self, cosine: bool | None = None) -> None:
        if cosine not in (True, False, None):
            raise ConfigError(f'MomentumScheduleHook: cosine must be True, False or None, got {cosine!r}')
        self.cosine = cosine
        self._followers: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Find the parts of the model with a momentum encoder."""
        model = unwrapped_model(runner)
        self._followers = [part for part in model.modules() if hasattr(part, 'base_momentum')]
        if not self._followers:
            raise ConfigError(
                f'MomentumScheduleHook: {type(model).__name__} has no momentum encoder; remove the hook '
                '(default_hooks.momentum=None)'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set ``momentum`` and ``update_due``."""
        progress = runner.iter / runner.max_iters
        update_due = runner.iter % runner.optim_wrapper._accumulative_counts == 0
        for part in self._followers:
            rises = not getattr(part, 'constant_momentum', False) if self.cosine is None else self.cosine
            part.momentum = cosine_momentum(part.base_momentum, progress) if rises else part.base_momentum
            part.update_due = update_due
