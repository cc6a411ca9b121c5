"""What mmengine needs to train our models: runner, loop, hooks, optimiser constructors, schedules."""

from .device_scalars import DeferredMessageHub
from .hooks import (
    CheckDataHook,
    CollapseHook,
    ExportBackboneHook,
    GradientConflictHook,
    HistoryHook,
    KNNHook,
    MomentumScheduleHook,
    NonFiniteLossHook,
    RandomStateHook,
    ReadableCheckpointHook,
    ReconstructionHook,
    SafeCheckpointHook,
    WeightAverageHook,
)
from .optimizers import LARS, AutocastOptimWrapper, DeviceOptimWrapper, LayerWiseLRConstructor
from .runners import GraftRunner, ResumableEpochLoop
from .schedulers import WarmupCosineLR

__all__ = [
    'LARS',
    'AutocastOptimWrapper',
    'CheckDataHook',
    'CollapseHook',
    'DeferredMessageHub',
    'DeviceOptimWrapper',
    'ExportBackboneHook',
    'GradientConflictHook',
    'GraftRunner',
    'HistoryHook',
    'KNNHook',
    'LayerWiseLRConstructor',
    'MomentumScheduleHook',
    'NonFiniteLossHook',
    'RandomStateHook',
    'ReadableCheckpointHook',
    'ReconstructionHook',
    'ResumableEpochLoop',
    'SafeCheckpointHook',
    'WarmupCosineLR',
    'WeightAverageHook',
]
