"""Depth of a timm model, from timm's own groups of parameters."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from mmselfsup_graft.checkpoints import TIMM_PREFIX, Depth
from mmselfsup_graft.checkpoints.families import MASK_TOKENS
from mmselfsup_graft.errors import ConfigError

_JOIN_LAST = (99999,)  # timm's mark of patterns whose parameters join the group before them


def timm_depth(model: nn.Module) -> Depth:
    """Depth of a timm model under the names that it has inside of a backbone (``timm_model.blocks.0`` ...).

    timm's ``group_matcher`` orders the parameters: the stem, then block by block. A down-sampling layer belongs to the
    block that it precedes; in a few families (CoAtNet, MaxViT) timm's blocks are whole stages. Unlike in timm, norms
    after the last block are a layer of their own, and the norm before the blocks of a ViT belongs to the stem.

    Args:
        model: The timm model.

    Raises:
        ConfigError: If the model does not group its parameters.
    """
    kind = type(model).__name__
    if not hasattr(model, 'group_matcher'):
        raise ConfigError(f'{kind} of timm does not say which layer its parameters belong to (no group_matcher)')
    groups = _groups(model)
    if len(groups) < 3:
        raise ConfigError(f'{kind} of timm has no blocks: its group_matcher finds {len(groups) - 1} group')
    layer_of = {name: number for number, names in enumerate(groups) for name in names}
    prefixes: list[list[str]] = [[] for _ in groups]
    _collect(model, '', layer_of, prefixes)
    stem, *blocks, _ = (tuple(TIMM_PREFIX + name for name in names) for names in prefixes)
    return Depth((*stem, *MASK_TOKENS), tuple(blocks))


def _groups(model: Any) -> list[list[str]]:
    """Names of the parameters of the stem, of every block, and of what follows the last block."""
    from timm.models import group_parameters

    matcher = model.group_matcher(coarse=False)
    patterns = {} if callable(matcher) else {part: _without_norms(each) for part, each in matcher.items()}
    found = list(group_parameters(model, patterns or matcher).values())
    known = [re.compile(pattern) for each in patterns.values() for pattern, _ in each]
    if not known or any(each.match(found[-1][0]) for each in known):
        found.append([])  # nothing follows the last block
    if hasattr(model, 'patch_embed'):  # of a ViT; elsewhere norm_pre comes after the last block
        early = [name for name in found[-1] if name.startswith('norm_pre.')]
        found[0] += early
        found[-1] = [name for name in found[-1] if name not in early]
    return found


def _without_norms(patterns: Any) -> list[tuple[str, Any]]:
    """Timm's patterns of a part of a model without those that append a norm to the last block."""
    pairs = [(patterns, None)] if isinstance(patterns, str) else patterns or []
    return [(pattern, suffix) for pattern, suffix in pairs if suffix != _JOIN_LAST]


def _collect(module: nn.Module, name: str, layer_of: Mapping[str, int], prefixes: list[list[str]]) -> None:
    """Append the names of the largest modules, and of single parameters, that lie in one layer."""
    below = {layer_of[name + each] for each, _ in module.named_parameters()}
    if name and len(below) == 1:
        prefixes[below.pop()].append(name.rstrip('.'))
        return
    for each, _ in module.named_parameters(recurse=False):
        prefixes[layer_of[name + each]].append(name + each)
    for each, child in module.named_children():
        _collect(child, f'{name}{each}.', layer_of, prefixes)
