"""Rules on parameter names: factors of learning rate and weight decay, as in the published recipes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmselfsup_graft.errors import ConfigError

_FACTORS = {'lr_mult': 'a number > 0', 'decay_mult': 'a number >= 0'}


@dataclass(frozen=True)
class ParamRule:
    """Factors for all parameters whose name matches.

    Attributes:
        match: Regular expression, searched in the full name (``backbone.mask_token``).
        lr_mult: Factor of the learning rate; None leaves it.
        decay_mult: Factor of the weight decay; None leaves it.
    """

    match: re.Pattern[str]
    lr_mult: float | None = None
    decay_mult: float | None = None


def parse_rules(entries: Any) -> tuple[ParamRule, ...]:
    """Read ``[dict(match='regex', lr_mult=..., decay_mult=...), ...]``.

    Raises:
        ConfigError: If it is not a list of such dicts, a pattern is not a regular expression or a factor is not a
            number.
    """
    if not isinstance(entries, list | tuple) or not entries:
        raise ConfigError(f"paramwise_cfg.rules takes a list of dict(match='regex', lr_mult=...), got {entries!r}")
    return tuple(_parse_rule(entry, number) for number, entry in enumerate(entries))


def multipliers(rules: Sequence[ParamRule], name: str) -> tuple[float, float]:
    """Factors of learning rate and weight decay of a parameter: every match applies, the later one wins.

    Args:
        rules: In their order.
        name: Full name of the parameter.
    """
    found = [rule for rule in rules if rule.match.search(name)]
    lr = [rule.lr_mult for rule in found if rule.lr_mult is not None]
    decay = [rule.decay_mult for rule in found if rule.decay_mult is not None]
    return (lr[-1] if lr else 1.0), (decay[-1] if decay else 1.0)


def _parse_rule(entry: Any, number: int) -> ParamRule:
    place = f'paramwise_cfg.rules[{number}]'
    if not isinstance(entry, Mapping) or not isinstance(entry.get('match'), str):
        raise ConfigError(f"{place} must be dict(match='regex', lr_mult=..., decay_mult=...), got {entry!r}")
    unknown = sorted(set(entry) - {'match', *_FACTORS})
    if unknown:
        raise ConfigError(f'{place}: unknown key {unknown[0]!r}; a rule takes match, {", ".join(_FACTORS)}')
    if len(entry) == 1:
        raise ConfigError(f'{place} changes nothing; give lr_mult or decay_mult')
    try:
        pattern = re.compile(entry['match'])
    except re.error as error:
        raise ConfigError(f'{place}: {entry["match"]!r} is not a regular expression: {error}') from error
    return ParamRule(pattern, **{key: _factor(entry[key], f'{place}.{key}', key) for key in _FACTORS if key in entry})


def _factor(value: Any, place: str, key: str) -> float:
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or value < 0 or (key == 'lr_mult' and value == 0):
        raise ConfigError(f'{place} must be {_FACTORS[key]}, got {value!r}; frozen_layers stops layers from learning')
    return float(value)
