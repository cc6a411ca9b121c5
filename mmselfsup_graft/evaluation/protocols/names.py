"""The protocols of a config's ``evaluation`` section by name: settings, and the function that scores."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import PROTOCOLS

from .few_shot import FewShotProtocol, few_shot_accuracies
from .knn import KNNProtocol, knn_accuracy
from .linear import LinearProtocol
from .logistic import FeatureSet, LogisticProtocol, logistic_accuracy

Protocol = FewShotProtocol | KNNProtocol | LogisticProtocol | LinearProtocol

# in the order of tables
PROTOCOLS.register_module(name='few_shot', module=FewShotProtocol)
PROTOCOLS.register_module(name='logistic', module=LogisticProtocol)
PROTOCOLS.register_module(name='knn', module=KNNProtocol)
PROTOCOLS.register_module(name='linear', module=LinearProtocol)


def make_protocol(name: str, options: Mapping[str, Any], where: str) -> Protocol:
    """A protocol from a section of a config.

    Args:
        name: Key of :data:`mmselfsup_graft.registry.PROTOCOLS`.
        options: Settings; lists become tuples.
        where: Place of the section, for messages.

    Raises:
        ConfigError: If there is an unknown key or a value outside its range.
    """
    kind = cast(Callable[..., Protocol], PROTOCOLS.get(name))
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})
    except TypeError as error:
        raise ConfigError(f'{where}: {error}') from error


def score_features(train: FeatureSet, test: FeatureSet, protocol: Protocol) -> dict[Any, Any]:
    """Score features by a protocol that needs only features (all but the linear sweep)."""
    if isinstance(protocol, FewShotProtocol):
        return few_shot_accuracies(train, test, protocol)
    if isinstance(protocol, LogisticProtocol):
        return logistic_accuracy(train, test, protocol)
    if isinstance(protocol, KNNProtocol):
        return knn_accuracy(train, test, protocol)
    raise TypeError(f'{type(protocol).__name__} needs more than features')
