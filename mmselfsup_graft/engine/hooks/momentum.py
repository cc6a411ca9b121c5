"""Schedule of the momentum encoder."""

import math
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

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
    """Give the model its momentum for the coming iteration, and one update per optimiser step.

    The model needs attributes ``base_momentum``, ``momentum`` and ``update_due``. With gradient accumulation only the
    first micro-batch of a step updates the moving average.

    Args:
        cosine: Raise the momentum to 1 by a half cosine over fractional epochs; else keep ``base_momentum``.
    """

    priority = 'NORMAL'

    def __init__(self, cosine: bool = True) -> None:
        self.cosine = cosine

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set ``model.momentum`` and ``model.update_due``."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        progress = runner.iter / runner.max_iters
        model.momentum = cosine_momentum(model.base_momentum, progress) if self.cosine else model.base_momentum
        model.update_due = runner.iter % runner.optim_wrapper._accumulative_counts == 0
