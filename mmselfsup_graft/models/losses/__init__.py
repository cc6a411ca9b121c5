"""Losses as pure, typed functions: tensors in, tensors out; modules elsewhere only hold options."""

from .contrastive import info_nce, nt_xent, vicreg
from .pixels import masked_l1
from .targets import attention_row_loss, masked_feature_loss
from .weight_distance import l1_weight_distance

__all__ = [
    'attention_row_loss',
    'info_nce',
    'l1_weight_distance',
    'masked_feature_loss',
    'masked_l1',
    'nt_xent',
    'vicreg',
]
