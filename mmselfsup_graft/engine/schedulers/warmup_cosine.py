"""Linear warm-up from exactly zero, then a half cosine, in closed form."""

import math
from typing import Any

from mmengine.optim import BaseOptimWrapper
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from torch.optim import Optimizer

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import PARAM_SCHEDULERS


def warmup_cosine_factor(
    step: float, warmup: float, end: float, min_ratio: float = 0.0, start_ratio: float | None = None
) -> float:
    """Factor of the learning rate: ``step / warmup``, then a half cosine from 1 to ``min_ratio`` at ``end``.

    With ``start_ratio`` the warm-up is SwAV's: from that factor to 1 at its last step, ``warmup - 1``.

    Args:
        step: Position, in the same (possibly fractional) unit as the others.
        warmup: Length of the warm-up.
        end: End of the schedule.
        min_ratio: Floor as a share of the peak.
        start_ratio: Factor of step 0; the unit is then one step. None starts at 0.
    """
    if step < warmup:
        if start_ratio is not None:
            return start_ratio + (1.0 - start_ratio) * step / max(warmup - 1.0, 1.0)
        return step / warmup
    cosine = 0.5 * (1.0 + math.cos(math.pi * (min(step, end) - warmup) / (end - warmup)))
    return min_ratio + (1.0 - min_ratio) * cosine


def step_fix_cosine(step: float, warmup: float, end: float, peak: float, floor: float) -> float:
    """Learning rate of A2MIM's and SimMIM's published runs, whose cosine also runs during the warm-up.

    ``floor + (peak - floor) (1 + cos(pi (step - warmup) / (end - warmup))) / 2``, in the warm-up times
    ``step / warmup``: there the progress is negative, and the rate is slightly below a straight line.

    Args:
        step: Position, in the same (possibly fractional) unit as the lengths.
        warmup: Length of the warm-up.
        end: End of the schedule.
        peak: Largest rate.
        floor: Rate at the end.
    """
    cosine = 0.5 * (1.0 + math.cos(math.pi * (min(step, end) - warmup) / (end - warmup)))
    rate = floor + (peak - floor) * cosine
    return rate * step / warmup if step < warmup else rate


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """The schedule of MAE, MoCo v3 and Layer Grafted Pre-training, set at every iteration.

    Differs from chaining mmengine's LinearLR and CosineAnnealingLR: the warm-up starts at exactly 0, and the value is
    computed in closed form, so a resumed run has exactly the learning rates of an uninterrupted one.

    Args:
        optimizer: Optimizer or wrapper.
        warmup: Length of the warm-up (epochs with ``by_epoch``, else iterations).
        end: Length of the whole schedule.
        min_ratio: Floor as a share of each group's peak; 0 for no floor.
        min_lr: Floor as one rate for all groups, instead of ``min_ratio``; a group with a lower peak rises to it.
        cosine_in_warmup: The cosine runs during the warm-up too, see :func:`step_fix_cosine`.
        start_ratio: Start of SwAV's warm-up as a share of each group's peak, see :func:`warmup_cosine_factor`; None
            starts at 0.
        begin, last_step, by_epoch, verbose: As in mmengine. Write ``convert_to_iter_based=True`` in configs.

    Raises:
        ConfigError: If the warm-up does not end before the schedule, the floor is negative or given twice, or
            ``start_ratio`` is outside [0, 1] or given for a warm-up of the other kind.
    """

    def __init__(
        self,
        optimizer: Optimizer | BaseOptimWrapper,
        warmup: float,
        end: int,
        min_ratio: float | None = None,
        min_lr: float | None = None,
        cosine_in_warmup: bool = False,
        start_ratio: float | None = None,
        begin: int = 0,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if not 0 <= warmup < end:
            raise ConfigError(f'WarmupCosineLR: warmup={warmup} must be at least 0 and less than end={end}')
        if min_ratio is not None and min_lr is not None:
            raise ConfigError('WarmupCosineLR: give min_ratio or min_lr, not both')
        if min_lr is not None and min_lr < 0:
            raise ConfigError(f'WarmupCosineLR: min_lr={min_lr} must be at least 0')
        if start_ratio is not None and (not 0 <= start_ratio <= 1 or cosine_in_warmup):
            raise ConfigError(
                f'WarmupCosineLR: start_ratio={start_ratio} must lie in [0, 1], and not stand beside cosine_in_warmup'
            )
        self.warmup, self.total, self.min_ratio, self.min_lr = warmup, end, min_ratio or 0.0, min_lr
        self.cosine_in_warmup, self.start_ratio = cosine_in_warmup, start_ratio
        super().__init__(optimizer, 'lr', begin, end, last_step, by_epoch, verbose)

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: Optimizer | BaseOptimWrapper,
        warmup: float,
        end: int,
        begin: int = 0,
        by_epoch: bool = True,
        epoch_length: int = 0,
        **kwargs: Any,
    ) -> 'WarmupCosineLR':
        """Build an iteration-based schedule from one given in epochs."""
        if not by_epoch or epoch_length <= 0:
            raise ConfigError('WarmupCosineLR: convert_to_iter_based needs by_epoch=True and a known epoch length')
        return cls(
            optimizer,
            warmup=warmup * epoch_length,
            end=end * epoch_length,
            begin=begin * epoch_length,
            by_epoch=False,
            **kwargs,
        )

    def _get_value(self) -> list[float]:
        return [self._value(base) for base in self.base_values]

    def _value(self, peak: float) -> float:
        """Current rate of a group with this peak."""
        step, warmup, end = self.last_step, self.warmup, self.total
        if self.cosine_in_warmup:
            floor = self.min_ratio * peak if self.min_lr is None else self.min_lr
            return step_fix_cosine(step, warmup, end, peak, floor)
        ratio = self.min_ratio if self.min_lr is None or not peak else self.min_lr / peak
        return peak * warmup_cosine_factor(step, warmup, end, ratio, self.start_ratio)
