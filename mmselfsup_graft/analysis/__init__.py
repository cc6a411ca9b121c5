"""Analysis of models and runs: gradient conflict, where to graft, collapse, interactions, spectra of features."""

from .collapse import effective_rank, feature_std, mean_cosine
from .conflict import ConflictProfile, conflict_of_losses, layer_groups, measure_conflict
from .feature_spectrum import (
    LayerSpectrum,
    log_amplitude,
    measure_spectrum,
    relative_log_amplitude,
    spatial_variance,
)
from .graft_proposal import GraftProposal, propose_graft
from .host_reads import HostReads
from .interaction import InteractionSettings, InteractionStrength, interaction_strength, measure_interactions
from .nonfinite import NonFiniteOrigin, find_nonfinite, nonfinite_names

__all__ = [
    'ConflictProfile',
    'GraftProposal',
    'HostReads',
    'InteractionSettings',
    'InteractionStrength',
    'LayerSpectrum',
    'NonFiniteOrigin',
    'conflict_of_losses',
    'effective_rank',
    'feature_std',
    'find_nonfinite',
    'interaction_strength',
    'layer_groups',
    'log_amplitude',
    'mean_cosine',
    'measure_conflict',
    'measure_interactions',
    'measure_spectrum',
    'nonfinite_names',
    'propose_graft',
    'relative_log_amplitude',
    'spatial_variance',
]
