"""Analysis of models and runs: gradient conflict, where to graft, collapse, interactions, spectra of features."""

from .collapse.hook import CollapseHook
from .collapse.measure import effective_rank, feature_std, mean_cosine
from .conflict.hook import GradientConflictHook
from .conflict.measure import ConflictProfile, conflict_of_losses, layer_groups, measure_conflict
from .conflict.proposal import GraftProposal, propose_graft
from .host_reads import HostReads
from .interaction.measure import InteractionSettings, InteractionStrength, interaction_strength, measure_interactions
from .reconstruction.hook import ReconstructionHook
from .spectrum.measure import LayerSpectrum, log_amplitude, measure_spectrum, relative_log_amplitude, spatial_variance

__all__ = [
    'CollapseHook',
    'ConflictProfile',
    'GradientConflictHook',
    'GraftProposal',
    'HostReads',
    'InteractionSettings',
    'InteractionStrength',
    'LayerSpectrum',
    'ReconstructionHook',
    'conflict_of_losses',
    'effective_rank',
    'feature_std',
    'interaction_strength',
    'layer_groups',
    'log_amplitude',
    'mean_cosine',
    'measure_conflict',
    'measure_interactions',
    'measure_spectrum',
    'propose_graft',
    'relative_log_amplitude',
    'spatial_variance',
]
