"""Losses as pure, typed functions: tensors in, tensors out; modules elsewhere only hold options."""

from .contrastive import info_nce, nt_xent, vicreg
from .pixels import masked_l1
from .weight_distance import l1_weight_distance

__all__ = ['info_nce', 'l1_weight_distance', 'masked_l1', 'nt_xent', 'vicreg']
