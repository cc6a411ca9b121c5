"""Several objectives on one encoder."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import ModuleDict

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS

from .base import SelfSupAlgorithm

_KEYS = ('model', 'views', 'weight')
_OF_THE_WHOLE = ('backbone', 'graft', 'frozen_layers', 'l1_distance', 'data_preprocessor', 'channels_last')


@MODELS.register_module()
class MultiTask(SelfSupAlgorithm):
    """Train one encoder on the weighted sum of several objectives, the multi-task baseline of arXiv 2302.14138.

    Every objective is an algorithm of the toolbox without a backbone of its own; its neck, head and momentum encoder
    are its own. ``graft``, ``frozen_layers``, ``l1_distance`` and ``channels_last`` belong to the whole.

    Args:
        objectives: Name -> ``dict(model=<algorithm>, views=<view numbers>, weight=1.0)``. ``views`` says which of the
            views that the pipeline makes (see the transform ``Views``) the objective takes: one number for an algorithm
            of single images, a list for an algorithm of several.
        **kwargs: See :class:`SelfSupAlgorithm`; ``neck`` and ``head`` belong into the objectives.

    Raises:
        ConfigError: For fewer than two objectives, unknown keys, a negative weight, or an option in an objective that
            belongs to the whole.
    """

    def __init__(self, backbone: dict, objectives: Mapping[str, Mapping[str, Any]], **kwargs: Any) -> None:
        for part in ('neck', 'head'):
            if kwargs.pop(part, None) is not None:
                raise ConfigError(f'MultiTask: give {part} inside objectives.<name>.model, each objective has its own')
        super().__init__(backbone=backbone, **kwargs)
        whole = {'channels_last': kwargs.get('channels_last', False)}
        if len(objectives) < 2:
            raise ConfigError(f'MultiTask needs two objectives or more, got {len(objectives)}')
        self.weights: dict[str, float] = {}
        self.views: dict[str, int | list[int]] = {}
        self.objectives = ModuleDict()  # mmengine's, which hands init_weights on
        for name, options in objectives.items():
            _check_objective(name, options)
            self.weights[name] = float(options.get('weight', 1.0))
            views = options['views']
            self.views[name] = views if isinstance(views, int) else list(views)
            self.objectives[name] = self._sharing(MODELS.build({**options['model'], **whole, 'backbone': backbone}))

    def _sharing(self, objective: SelfSupAlgorithm) -> SelfSupAlgorithm:
        """Let an objective work on our encoder, which stays a child of ours alone: saved, moved and counted once."""
        del objective.backbone
        objective.__dict__['backbone'] = self.backbone
        objective.frozen_layers = self.frozen_layers
        return objective

    def after_graft(self) -> None:
        """Let every objective take note of the encoder's first weights."""
        super().after_graft()
        for objective in self._algorithms().values():
            objective.after_graft()

    def _algorithms(self) -> dict[str, Any]:
        return dict(self.objectives.items())

    def objective_losses(self, inputs: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Loss of every objective, not weighted.

        Args:
            inputs: The views, each [B, C, H, W].

        Raises:
            ConfigError: If there are fewer views than the objectives ask for.
        """
        return {name: _total(results) for name, results in self._results(inputs).items()}

    def _results(self, inputs: Sequence[torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
        """What every objective returns, by its name."""
        return {name: each.loss(self._views_of(name, inputs)) for name, each in self._algorithms().items()}

    def _views_of(self, name: str, inputs: Sequence[torch.Tensor]) -> Any:
        wanted = self.views[name]
        numbers = [wanted] if isinstance(wanted, int) else wanted
        if isinstance(inputs, torch.Tensor) or max(numbers) >= len(inputs):
            given = 1 if isinstance(inputs, torch.Tensor) else len(inputs)
            raise ConfigError(
                f'MultiTask: objective {name!r} takes views {wanted}, the pipeline makes {given}; see Views'
            )
        return inputs[wanted] if isinstance(wanted, int) else [inputs[number] for number in wanted]

    def loss(self, inputs: Sequence[torch.Tensor], data_samples: Any = None) -> dict[str, torch.Tensor]:
        """Weighted loss of every objective as ``loss_<name>``; ``inputs`` as in :meth:`objective_losses`.

        What an objective gives to be logged, such as MoCo's accuracy, is called ``<name>_accuracy``.
        """
        results = self._results(inputs)
        losses = {f'loss_{name}': self.weights[name] * _total(each) for name, each in results.items()}
        logged = {f'{name}_{key}': v for name, each in results.items() for key, v in each.items() if 'loss' not in key}
        return self.add_l1({**losses, **logged})


def _total(results: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Sum of the losses among the results of an objective."""
    return torch.stack([value for key, value in results.items() if 'loss' in key]).sum()


def _check_objective(name: str, options: Mapping[str, Any]) -> None:
    unknown = sorted(set(options) - set(_KEYS))
    if unknown or 'model' not in options or 'views' not in options:
        raise ConfigError(f'MultiTask: objective {name!r} takes {", ".join(_KEYS)}, got {", ".join(sorted(options))}')
    views = options['views']
    numbers = [views] if isinstance(views, int) else views
    if not numbers or any(type(number) is not int or number < 0 for number in numbers):
        raise ConfigError(
            f'MultiTask: objective {name!r}: views={views!r} is neither a view number nor a list of view numbers'
        )
    if options.get('weight', 1.0) < 0:
        raise ConfigError(f'MultiTask: objective {name!r} has the negative weight {options["weight"]}')
    misplaced = [key for key in _OF_THE_WHOLE if key in options['model']]
    if misplaced:
        raise ConfigError(f'MultiTask: {misplaced[0]} belongs to the whole model, not to objective {name!r}')
