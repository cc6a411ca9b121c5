"""Evaluation of frozen features."""

from .backbones import BlockFeature, load_backbone
from .cache import FeatureCache, samples_sha256
from .features import AugmentedBatches, Embedded, embed, extract_features, pixel_encoder, pixels_as_features
from .knn_hook import KNNHook
from .pooling import FEATURES, check_features, default_feature, encode_images, has_class_token
from .protocols.few_shot import FewShotProtocol, few_shot_accuracies
from .protocols.knn import KNNProtocol, knn_accuracy, knn_grid
from .protocols.linear import CachedBatches, LinearProtocol, linear_accuracy
from .protocols.linear_heads import LinearHeads
from .protocols.logistic import LogisticProtocol, center_and_normalize, fit_logistic, logistic_accuracy
from .protocols.names import Protocol, make_protocol, score_features

__all__ = [
    'FEATURES',
    'AugmentedBatches',
    'BlockFeature',
    'CachedBatches',
    'Embedded',
    'FeatureCache',
    'FewShotProtocol',
    'KNNHook',
    'KNNProtocol',
    'LinearHeads',
    'LinearProtocol',
    'LogisticProtocol',
    'Protocol',
    'center_and_normalize',
    'check_features',
    'default_feature',
    'embed',
    'encode_images',
    'extract_features',
    'few_shot_accuracies',
    'fit_logistic',
    'has_class_token',
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
