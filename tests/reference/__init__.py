"""Slow forms of the methods, written from the papers without the savings of the package.

``NAME.py`` stands for ``models/algorithms/NAME.py`` and has ``losses(model, inputs)``: what the algorithm ``model``
should return for images or views, from its weights. Its ``CASES``, if it has them, join those of ``algorithm_cases``.
Attention is written out, views pass one by one, tokens lie in the order of the image, everything is computed.
Random numbers are drawn as the method draws them, so one seed serves both forms. Drop path and dropout are left out.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import torch


def cases() -> dict[str, tuple[Callable[[], dict[str, Any]], int]]:
    """Name -> (function that gives a config, number of views), of all modules with ``CASES``."""
    modules = [importlib.import_module(f'.{info.name}', __name__) for info in pkgutil.iter_modules(__path__)]
    return {name: case for module in modules for name, case in getattr(module, 'CASES', {}).items()}


def losses(model: Any, inputs: Any, **given: Any) -> dict[str, torch.Tensor]:
    """Losses of an algorithm by name, of several objectives their weighted sums; ``given`` may hold noise or a mask."""
    name = type(model).__module__.rpartition('.')[2]
    if name != 'multi_task':
        return importlib.import_module(f'.{name}', __name__).losses(model, inputs, **given)
    found = {}
    for name, objective in model.objectives.items():
        views = model.views[name]
        seen = inputs[views] if isinstance(views, int) else [inputs[view] for view in views]
        results = losses(objective, seen)
        found[f'loss_{name}'] = model.weights[name] * sum(value for key, value in results.items() if 'loss' in key)
        found |= {f'{name}_{key}': value for key, value in results.items() if 'loss' not in key}
    return found
