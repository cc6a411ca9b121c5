"""The protocols of a config's ``evaluation`` section by name: settings, and the function that scores."""

from typing import Any

from .few_shot import FewShotProtocol, few_shot_accuracies
from .knn import KNNProtocol, knn_accuracy
from .linear import LinearProtocol
from .logistic import FeatureSet, LogisticProtocol, logistic_accuracy

Protocol = FewShotProtocol | KNNProtocol | LogisticProtocol | LinearProtocol

# name in a config -> its dataclass; the order is that of tables
PROTOCOLS: dict[str, type[Protocol]] = {
    'few_shot': FewShotProtocol,
    'logistic': LogisticProtocol,
    'knn': KNNProtocol,
    'linear': LinearProtocol,
}


def score_features(train: FeatureSet, test: FeatureSet, protocol: Protocol) -> dict[Any, Any]:
    """Score features by a protocol that needs nothing but them (all but the linear sweep)."""
    if isinstance(protocol, FewShotProtocol):
        return few_shot_accuracies(train, test, protocol)
    if isinstance(protocol, LogisticProtocol):
        return logistic_accuracy(train, test, protocol)
    if isinstance(protocol, KNNProtocol):
        return knn_accuracy(train, test, protocol)
    raise TypeError(f'{type(protocol).__name__} needs more than features')
