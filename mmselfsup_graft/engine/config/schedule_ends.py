"""The length of a learning-rate schedule that does not state one."""

from collections.abc import Mapping
from typing import Any


def with_schedule_ends(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config whose ``WarmupCosineLR`` by epochs states its end: the length of the training, mmengine's default.

    Hashes of configs are taken of this form: configs stated the end in earlier versions, and a run or recipe that was
    begun then is still the same.

    Args:
        config: A resolved config as plain data; it is not changed.
    """
    epochs, schedules = (config.get('train_cfg') or {}).get('max_epochs'), config.get('param_scheduler')
    if epochs is None or not isinstance(schedules, list):
        return dict(config)
    return {**config, 'param_scheduler': [{'end': epochs, **each} if _ends(each) else each for each in schedules]}


def _ends(schedule: Any) -> bool:
    return isinstance(schedule, dict) and schedule.get('type') == 'WarmupCosineLR' and bool(schedule.get('by_epoch'))
