"""Losses as pure, typed functions: tensors in, tensors out; modules elsewhere only hold options."""

from .contrastive import info_nce, nt_xent, vicreg
from .weight_distance import l1_weight_distance

__all__ = ['info_nce', 'l1_weight_distance', 'nt_xent', 'vicreg']
