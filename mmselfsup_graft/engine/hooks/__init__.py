"""Hooks."""

from .check_data import CheckDataHook
from .checkpoint import ReadableCheckpointHook, SafeCheckpointHook
from .collapse import CollapseHook
from .conflict import GradientConflictHook
from .export_backbone import ExportBackboneHook
from .history import HistoryHook
from .knn import KNNHook
from .momentum import MomentumScheduleHook, cosine_momentum
from .nonfinite import NonFiniteLossHook
from .preemption import PreemptionHook
from .random_state import RandomStateHook
from .reconstruction import ReconstructionHook
from .summary import RunSummaryHook
from .weight_average import WeightAverageHook

__all__ = [
    'CheckDataHook',
    'CollapseHook',
    'ExportBackboneHook',
    'GradientConflictHook',
    'HistoryHook',
    'KNNHook',
    'MomentumScheduleHook',
    'NonFiniteLossHook',
    'PreemptionHook',
    'RandomStateHook',
    'ReadableCheckpointHook',
    'ReconstructionHook',
    'RunSummaryHook',
    'SafeCheckpointHook',
    'WeightAverageHook',
    'cosine_momentum',
]
