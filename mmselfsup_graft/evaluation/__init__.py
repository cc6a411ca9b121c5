"""Evaluation of frozen features."""

from .features import extract_features, load_backbone, pixels_as_features
from .few_shot import FewShotProtocol, centre_and_normalise, few_shot_accuracies
from .knn import KNNProtocol, knn_accuracy

__all__ = [
    'FewShotProtocol',
    'KNNProtocol',
    'centre_and_normalise',
    'extract_features',
    'few_shot_accuracies',
    'knn_accuracy',
    'load_backbone',
    'pixels_as_features',
]
