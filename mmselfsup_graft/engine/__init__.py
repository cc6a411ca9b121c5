"""What mmengine needs to train our models: runner, loop, hooks, optimiser constructors, schedules."""

from .hooks import (
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
from .optimizers import LARS, AutocastOptimWrapper, LayerWiseLRConstructor
from .runners import GraftRunner, ResumableEpochLoop
from .schedulers import WarmupCosineLR

__all__ = [
    'LARS',
    'AutocastOptimWrapper',
    'CollapseHook',
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
