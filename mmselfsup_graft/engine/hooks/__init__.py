"""Hooks."""

from .check_data import CheckDataHook
from .checkpoint import ReadableCheckpointHook, SafeCheckpointHook
from .export_backbone import ExportBackboneHook
from .history import HistoryHook
from .live_line import LiveLineHook
from .momentum_schedule import MomentumScheduleHook, cosine_momentum
from .optimizer_steps import OptimizerStepHook
from .preemption import PreemptionHook
from .random_state import RandomStateHook
from .summary import RunSummaryHook
from .weight_average import WeightAverageHook

__all__ = [
    'CheckDataHook',
    'ExportBackboneHook',
    'HistoryHook',
    'LiveLineHook',
    'MomentumScheduleHook',
    'OptimizerStepHook',
    'PreemptionHook',
    'RandomStateHook',
    'ReadableCheckpointHook',
    'RunSummaryHook',
    'SafeCheckpointHook',
    'WeightAverageHook',
    'cosine_momentum',
]
