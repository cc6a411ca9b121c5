"""Other kinds of mask tokens, in the plain backbones of mmpretrain: a reference that shares no code with ours."""

import json
from typing import Any

import numpy as np
import torch

from .files import Arrays, Json


def with_token(arrays: Arrays, settings: Json, kind: str, detach: bool) -> Arrays | None:
    """The recorded backbone with a token that is not learned; None for a network that is not a convolutional one.

    Args:
        arrays: A file of the kind ``backbone``.
        settings: Its settings.
        kind: ``mean``, ``instance_mean`` or ``zero``.
        detach: No gradient flows into masked features.
    """
    if 'ViT' in settings['type']:
        return None
    given = {k: v for k, v in arrays.items() if not k.startswith('grad_mask_') and k not in ('feat_train', 'config')}
    if kind != 'zero':  # the published code may keep the last one
        del given['sd.mask_token']
    else:
        given['sd.mask_token'] = np.zeros_like(given['sd.mask_token'])
    images = torch.from_numpy(arrays['x']).double().requires_grad_()
    features = _network(arrays, settings, kind, detach)(images)[-1]
    (features * torch.from_numpy(arrays['probe'])).sum().backward()
    assert images.grad is not None
    recorded = {'feat_eval': features.detach().numpy(), 'grad_x': images.grad.numpy()}
    return {**given, **recorded, 'config': np.array(json.dumps({**settings, 'mask_token': kind, 'detach': detach}))}


def _network(arrays: Arrays, settings: Json, kind: str, detach: bool) -> Any:
    from mmselfsup_graft.registry import MODELS

    state = {n.removeprefix('sd.'): torch.from_numpy(v).double() for n, v in arrays.items() if n.startswith('sd.')}
    mask = torch.from_numpy(arrays['mask'])[:, None].double()  # [B, 1, h, w], of the size of the map
    gain = state.pop('mask_gamma', torch.ones(()))
    del state['mask_token']

    def mix(z: torch.Tensor) -> torch.Tensor:
        if detach:  # first of all: what is taken from the features later has no gradient there either
            z = z * (1 - mask) + z.detach() * mask
        token = {'mean': z.detach().mean((0, 2, 3), True), 'instance_mean': z.mean((2, 3), True)}.get(kind, 0 * z[:1])
        kept = 0 * z if settings['replace'] else gain * z
        return z * (1 - mask) + kept * mask + token * mask

    if 'ResNet' in settings['type']:
        widths = dict(stem_channels=len(state['conv1.weight']), base_channels=len(state['layer1.0.conv1.weight']))
        model = MODELS.build(dict(type='mmpretrain.ResNet', depth=settings['depth'], **widths))
        stage = getattr(model, model.res_layers[settings['mask_layer']])
        stage.register_forward_pre_hook(lambda _module, inputs: (mix(inputs[0]),))
    else:
        model = MODELS.build(dict(type='mmpretrain.ConvNeXt', arch=settings['arch'], gap_before_final_norm=False))
        model.downsample_layers[settings['mask_layer']].register_forward_hook(lambda _module, _inputs, out: mix(out))
    model.double().load_state_dict(state, strict=False)
    model.eval()
    return model
