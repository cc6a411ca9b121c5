"""Analysis of models and runs: gradient conflict, where to graft, collapse."""

from .collapse import effective_rank, feature_std, mean_cosine
from .conflict import ConflictProfile, conflict_of_losses, layer_groups, measure_conflict
from .graft_proposal import GraftProposal, propose_graft

__all__ = [
    'ConflictProfile',
    'GraftProposal',
    'conflict_of_losses',
    'effective_rank',
    'feature_std',
    'layer_groups',
    'mean_cosine',
    'measure_conflict',
    'propose_graft',
]
