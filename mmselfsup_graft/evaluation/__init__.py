"""Evaluation of frozen features."""

from .backbones import BlockFeature, load_backbone
from .cache import FeatureCache, samples_sha256
from .features import AugmentedBatches, extract_features, pixel_encoder, pixels_as_features
from .few_shot import FewShotProtocol, few_shot_accuracies
from .heads import LinearHeads
from .knn import KNNProtocol, knn_accuracy, knn_grid
from .linear import CachedBatches, LinearProtocol, linear_accuracy
from .logistic import LogisticProtocol, centre_and_normalise, fit_logistic, logistic_accuracy
from .protocols import PROTOCOLS, Protocol, make_protocol, score_features

__all__ = [
    'PROTOCOLS',
    'AugmentedBatches',
    'BlockFeature',
    'CachedBatches',
    'FeatureCache',
    'FewShotProtocol',
    'KNNProtocol',
    'LinearHeads',
    'LinearProtocol',
    'LogisticProtocol',
    'Protocol',
    'centre_and_normalise',
    'extract_features',
    'few_shot_accuracies',
    'fit_logistic',
    'knn_accuracy',
    'knn_grid',
    'linear_accuracy',
    'load_backbone',
    'logistic_accuracy',
    'make_protocol',
    'pixel_encoder',
    'pixels_as_features',
    'samples_sha256',
    'score_features',
]
