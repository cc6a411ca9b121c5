"""Slow forms of the methods, written from the papers without the savings of the package.

Every module has ``losses(model, inputs)``: what the algorithm ``model`` should return for images or views, from its
weights. Attention is written out, views pass one by one, tokens lie in the order of the image, everything is computed.
Random numbers are drawn as the method draws them, so one seed serves both forms. Drop path and dropout are left out.
"""

from typing import Any

import torch

from . import a2mim, joint_embedding, mae, mocov3, simmim, tec

_METHODS = {
    'A2MIM': a2mim.losses,
    'JointEmbedding': joint_embedding.losses,
    'MAE': mae.losses,
    'MoCoV3': mocov3.losses,
    'SimMIM': simmim.losses,
    'TEC': tec.losses,
}


def losses(model: Any, inputs: Any, **given: Any) -> dict[str, torch.Tensor]:
    """Losses of an algorithm by name, of several objectives their weighted sums; ``given`` may hold noise or a mask."""
    kind = type(model).__name__
    if kind != 'MultiTask':
        return _METHODS[kind](model, inputs, **given)
    found = {}
    for name, objective in model.objectives.items():
        views = model.views[name]
        seen = inputs[views] if isinstance(views, int) else [inputs[view] for view in views]
        found[f'loss_{name}'] = model.weights[name] * sum(losses(objective, seen).values())
    return found
