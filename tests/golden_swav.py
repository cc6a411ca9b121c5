"""SwAV of the golden set: models of recorded sizes, names of tensors, queues of several ranks."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from golden_sets import golden_file, golden_names, some, starting
from helpers import build, tensor, vit_config
from torch import nn

from mmselfsup_graft.checkpoints import SWAV_MODEL

METHOD = 'moco_swav'


def files(kind: str) -> list[str]:
    return golden_names(kind, METHOD)


def read(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays of a golden file and its settings."""
    arrays = golden_file(name, METHOD)
    return arrays, json.loads(str(arrays['config']))


def our_name(name: str) -> str:
    """The name of an official tensor in our model."""
    return SWAV_MODEL.to_canonical(name)


def head_config(settings: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    given = {'assigned': 'crops_for_assign', 'iterations': 'sinkhorn_iterations'}
    names = {name: given.get(name, name) for name in ('num_prototypes', 'temperature', 'epsilon', *given)}
    return {
        'type': 'PrototypeHead',
        'in_channels': settings['dim'],
        'queue_length': settings.get('queue_length', 0),
        **{ours: settings[theirs] for ours, theirs in names.items()},
        **options,
    }


def model_config(settings: Mapping[str, Any], **head: Any) -> dict[str, Any]:
    arch = settings['arch']
    width, hidden = arch['base_channels'], arch.get('hidden', 0)
    backbone = dict(
        type='mmpretrain.ResNet',
        depth=arch['depth'],
        stem_channels=width,
        base_channels=width,
        zero_init_residual=False,
        norm_cfg=dict(type='PortableSyncBN'),
    )
    return {
        'type': 'SwAV',
        'backbone': backbone,
        'neck': neck_config(hidden, settings['dim']),
        'head': head_config(settings, **head),
    }


def neck_config(hidden: int, out: int) -> dict[str, Any]:
    if not hidden:
        return dict(type='mmpretrain.LinearNeck', out_channels=out, gap_dim=0, norm_cfg=None)
    return dict(
        type='mmpretrain.NonLinearNeck',
        hid_channels=hidden,
        out_channels=out,
        with_bias=True,
        with_last_bias=True,
        with_last_bn=False,
        with_avg_pool=False,
        norm_cfg=dict(type='PortableSyncBN'),
    )


def features_model(arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """A model whose crops are features [B, dim], as they come out of the projector; with a recorded queue, if any."""
    config = {'type': 'SwAV', 'backbone': vit_config(depth=1), 'neck': neck_config(0, settings['dim'])}
    model = build({**config, 'head': head_config(settings)}).double().train()
    model.project = lambda views: nn.functional.normalize(torch.stack(list(views)), dim=2)
    codes = model.head.codes

    def kept_codes(*args: torch.Tensor) -> torch.Tensor:
        model.seen = codes(*args)
        return model.seen

    model.head.codes = kept_codes
    with torch.no_grad():
        model.head.prototypes.weight.copy_(tensor(arrays['prototypes']))
        if 'queue' in arrays:
            queue = tensor(arrays['queue'])
            queue = queue if queue.dim() == 3 else joined_queue(queue, settings['batch'])
            model.head.queue.copy_(queue)
            model.head.queued = queue.shape[1]
    return model


def crops_of_features(z: Any, settings: Mapping[str, Any]) -> list[torch.Tensor]:
    """Features [B, dim] of every crop, of those of all crops [crops B, dim]; gradients are wanted."""
    return [each.requires_grad_() for each in tensor(z).split(settings['batch'])]


def joined_queue(queue: torch.Tensor, batch: int) -> torch.Tensor:
    """The queues [W, A, L / W, D] of several ranks as ours [A, L, D]: per batch, the first rank first."""
    per_batch = queue.unflatten(2, (-1, batch))  # [W, A, batches, B, D]
    return per_batch.permute(1, 2, 0, 3, 4).flatten(1, 3)


def state_of(arrays: Mapping[str, Any], prefix: str = 'sd.') -> dict[str, torch.Tensor]:
    return {our_name(name): tensor(value) for name, value in some(starting(arrays, prefix)).items()}


def loaded(settings: Mapping[str, Any], state: Mapping[str, torch.Tensor], **head: Any) -> Any:
    """The model in double precision and train mode, with recorded weights."""
    model = build(model_config(settings, **head)).double().train()
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    left = {'num_batches_tracked', 'counters', 'queue'}
    assert {name.rpartition('.')[2] for name in result.missing_keys} <= left
    return model


def crops_of(arrays: Mapping[str, Any]) -> list[torch.Tensor]:
    """The crops in their order."""
    found = {int(name): tensor(value) for name, value in some(starting(arrays, 'crop_')).items()}
    return [found[number] for number in sorted(found)]
