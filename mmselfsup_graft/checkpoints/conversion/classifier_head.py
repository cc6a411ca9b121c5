"""The linear classifier on a fine-tuned encoder, and its place in other libraries."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from mmselfsup_graft.checkpoints.formats.computed import IDENTITY, Entry
from mmselfsup_graft.checkpoints.formats.encoder import StateDict, unwrap_state_dict
from mmselfsup_graft.checkpoints.formats.stated import mapping_in
from mmselfsup_graft.errors import CheckpointError

from .convert_checkpoint import Conversion

FEATURES = ('class_token', 'patch_mean')

# (target, family) -> module that takes the classifier
_TIMM = {'vit': 'head', 'beit': 'head', 'resnet': 'fc', 'convnext': 'head.fc'}
_MODULES = {**{('timm', family): name for family, name in _TIMM.items()}, ('hf', 'vit'): 'classifier'}
#: targets that take a classifier
CLASSIFIER_TARGETS = tuple(dict.fromkeys(target for target, _ in _MODULES))

_FC, _FC0, _NORM = 'head.fc', 'head.fc0', 'head.bn0'


@dataclass(frozen=True)
class Classifier:
    """A linear classifier: ``logits = weight @ feature + bias``.

    Attributes:
        weight: [C, D].
        bias: [C].
        classes: C names; numbers as text if the file has none.
        origins: Names in the file and what was done to them.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    classes: tuple[str, ...]
    origins: tuple[tuple[str, str], ...]


def read_classifier(content: Mapping[str, Any], origin: str) -> Classifier | None:
    """The classifier in a checkpoint of fine-tuning; None if the file holds none.

    A first linear layer of :class:`FirstFCHead` without norm is multiplied into the last one.

    Args:
        content: Result of :func:`read_checkpoint`.
        origin: File name for messages.

    Raises:
        CheckpointError: If the head is not linear, or its shapes contradict each other.
    """
    state = unwrap_state_dict(content)
    if f'{_FC}.weight' not in state or f'{_FC}.bias' not in state:
        return None
    weight, bias = state[f'{_FC}.weight'], state[f'{_FC}.bias']
    if weight.dim() != 2 or bias.shape != weight.shape[:1] or not weight.numel():
        raise CheckpointError(
            f'{origin}: {_FC} has the shapes {tuple(weight.shape)} and {tuple(bias.shape)}, expected [C, D] and [C]'
        )
    if any(name.startswith(f'{_NORM}.') for name in state):
        raise CheckpointError(
            f'{origin}: its head has a norm and a ReLU between two linear layers, which no other library has; convert '
            'the encoder alone'
        )
    origins = [f'{_FC}.weight']
    operation = IDENTITY
    if f'{_FC0}.weight' in state:
        weight, operation = _joined(weight, state, origin), 'multiply'
        origins.append(f'{_FC0}.weight')
    names = mapping_in(mapping_in(content, 'meta'), 'dataset_meta').get('classes')
    told = isinstance(names, list | tuple)
    classes = tuple(map(str, names if told else range(len(weight))))  # type: ignore[arg-type]
    if len(classes) != len(weight):
        raise CheckpointError(f'{origin} keeps {len(classes)} names of classes, its head has {len(weight)} classes')
    return Classifier(weight, bias, classes, tuple((name, operation) for name in origins))


def _joined(weight: torch.Tensor, state: StateDict, origin: str) -> torch.Tensor:
    first = state[f'{_FC0}.weight']
    if first.dim() != 2 or first.shape[0] != weight.shape[1]:
        raise CheckpointError(f'{origin}: {_FC0} gives {len(first)} channels, {_FC} takes {weight.shape[1]}')
    return (weight.double() @ first.double()).to(weight.dtype)


def with_classifier(done: Conversion, found: Classifier, origin: str, feature: str | None = None) -> Conversion:
    """A converted encoder together with its classifier.

    Args:
        done: Conversion of the encoder, without a prefix.
        found: The classifier.
        origin: File name for messages.
        feature: ``class_token`` or ``patch_mean``, on which it was trained; None takes what the file states.

    Raises:
        CheckpointError: If the target takes no classifier on this encoder, or the feature is not known.
    """
    target, family = done.target.name, done.architecture.family
    module = _MODULES.get((target, family))
    if module is None:
        raise CheckpointError(
            f'{origin}: target {target} takes no classifier on a {family}; these do: {", ".join(CLASSIFIER_TARGETS)}'
        )
    feature = _feature(done, origin, feature)
    weight = found.weight
    if target == 'hf':
        done, weight = _for_huggingface(done, found.weight, feature, origin)
    changed = weight is not found.weight
    origins = tuple((name, 'pad' if changed else how) for name, how in found.origins)
    entries = [
        *done.entries,
        Entry(f'{module}.weight', weight, origins),
        Entry(f'{module}.bias', found.bias, ((f'{_FC}.bias', IDENTITY),)),
    ]
    taken = {name for name, _ in origins} | {f'{_FC}.bias'}
    return replace(
        done,
        entries=entries,
        dropped=tuple(name for name in done.dropped if name not in taken),
        architecture=replace(done.architecture, classes=found.classes, feature=feature),
        traits=replace(done.traits, feature=feature or None),
    )


def _feature(done: Conversion, origin: str, given: str | None) -> str:
    """The feature that the classifier takes; '' for an encoder that has only one."""
    if given is not None and given not in FEATURES:
        raise CheckpointError(f'feature is {given!r}; choose from {", ".join(FEATURES)}')
    names = done.bare_state
    if done.architecture.family not in ('vit', 'beit'):
        return ''
    own = 'patch_mean' if 'fc_norm.weight' in names else None
    found = given or own or done.architecture.feature
    if not found:
        raise CheckpointError(
            f'{origin} does not state which feature its classifier takes; give it: --feature class_token or '
            '--feature patch_mean (out_type of the backbone in its config: cls_token, or featmap and avg_featmap)'
        )
    return found


def _for_huggingface(
    done: Conversion, weight: torch.Tensor, feature: str, origin: str
) -> tuple[Conversion, torch.Tensor]:
    """The encoder inside the classifier of transformers, and the weight for what that puts into it.

    ``Dinov2ForImageClassification`` takes the class token followed by the mean of the patches.
    """
    scaled = any('.layer_scale1.' in name for name in done.bare_state)
    if feature != 'class_token' and not scaled:
        raise CheckpointError(
            f'{origin}: its classifier takes the mean of the patches, ViTForImageClassification the class token; use '
            '--to timm'
        )
    name = 'vit' if not scaled else 'dinov2_with_registers' if done.architecture.registers else 'dinov2'
    entries = [replace(entry, name=f'{name}.{entry.name}') for entry in done.entries]
    if scaled:
        nothing = torch.zeros_like(weight)
        halves = (weight, nothing) if feature == 'class_token' else (nothing, weight)
        weight = torch.cat(halves, dim=1)
    return replace(done, entries=entries), weight
