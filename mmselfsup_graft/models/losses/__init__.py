"""Losses as pure, typed functions: tensors in, tensors out; modules elsewhere only hold options."""

from .area_pooling import area_weights
from .clustering import logsumexp_over_ranks, prediction_entropy, sinkhorn, swapped_loss
from .contrastive import info_nce, info_nce_queue, nt_xent, unit_rows, vicreg
from .distillation import attention_row_loss, hidden_feature_loss
from .frequency import focal_frequency_loss, fourier_error
from .pixels import ERROR_MODES, at_least_float32, masked_l1, masked_mean, regression_error
from .weight_distance import l1_weight_distance

__all__ = [
    'ERROR_MODES',
    'area_weights',
    'at_least_float32',
    'attention_row_loss',
    'focal_frequency_loss',
    'fourier_error',
    'hidden_feature_loss',
    'info_nce',
    'info_nce_queue',
    'l1_weight_distance',
    'logsumexp_over_ranks',
    'masked_l1',
    'masked_mean',
    'nt_xent',
    'prediction_entropy',
    'regression_error',
    'sinkhorn',
    'swapped_loss',
    'unit_rows',
    'vicreg',
]
