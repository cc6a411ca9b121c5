"""Training on mmengine: runner, loop, hooks, optimizer constructors, schedules."""

from mmselfsup_graft.libraries import mmpretrain_models  # noqa: F401  (first)

from .device_scalars import DeferredMessageHub
from .execution.sharding import FullySharded
from .hooks import (
    CheckDataHook,
    ExportBackboneHook,
    HistoryHook,
    MomentumScheduleHook,
    OptimizerStepHook,
    RandomStateHook,
    ReadableCheckpointHook,
    SafeCheckpointHook,
    WeightAverageHook,
)
from .nonfinite.hook import NonFiniteLossHook
from .optimizers import LARS, AutocastOptimWrapper, DeviceOptimWrapper, LayerWiseLRConstructor
from .runners import GraftRunner, ResumableEpochLoop
from .schedulers import WarmupCosineLR

__all__ = [
    'LARS',
    'AutocastOptimWrapper',
    'CheckDataHook',
    'DeferredMessageHub',
    'DeviceOptimWrapper',
    'ExportBackboneHook',
    'FullySharded',
    'GraftRunner',
    'HistoryHook',
    'LayerWiseLRConstructor',
    'MomentumScheduleHook',
    'NonFiniteLossHook',
    'OptimizerStepHook',
    'RandomStateHook',
    'ReadableCheckpointHook',
    'ResumableEpochLoop',
    'SafeCheckpointHook',
    'WarmupCosineLR',
    'WeightAverageHook',
]
