"""A batch of a training run, exactly as its model gets it, without training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmselfsup_graft.analysis.fresh_model import fresh_model
from mmselfsup_graft.analysis.reconstruction.plot import pixel_statistics
from mmselfsup_graft.datasets.seeding import preserved_random_state
from mmselfsup_graft.engine.hooks.random_state import seed_iteration
from mmselfsup_graft.engine.runners.graft_runner import GraftRunner
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.models.masking import PatchMask, expand_mask
from mmselfsup_graft.registry import SCOPE


@dataclass(frozen=True)
class ModelBatch:
    """The input of a model at one iteration.

    Attributes:
        views: Each [B, C, H, W], as the model gets it: augmented and normalized.
        masks: Number of a view -> [B, 1, H, W], 1 where its pixels are hidden; one entry per masked view.
        mean: Per channel in 0..255, by which the views were normalized.
        std: Likewise.
        names: Folder and name of each image; its number in the batch where it has none.
    """

    views: tuple[torch.Tensor, ...]
    masks: Mapping[int, torch.Tensor]
    mean: Sequence[float]
    std: Sequence[float]
    names: Sequence[str]

    def pixels(self, view: int) -> torch.Tensor:
        """A view [B, C, H, W] in 0..255."""
        shift, scale = (torch.tensor(each).view(1, -1, 1, 1) for each in (self.mean, self.std))
        return self.views[view].cpu().float() * scale + shift


class _Drawn(Exception):
    """All masks of a batch are known; the rest of the loss is not needed."""


def batch_of(cfg: Config, iteration: int = 0) -> ModelBatch:
    """The batch of an iteration of the run of a config in one process: the same images, random numbers and masks.

    Samples are functions of (seed, epoch, index), and what the model draws is a function of (seed, iteration), so
    nothing before the iteration has to be done. Loaded in this process, on the CPU or the GPU as in training.

    Args:
        cfg: A training config of this toolbox, with ``randomness.seed``.
        iteration: Counted from 0.

    Raises:
        ConfigError: If the config is of another library, has no seed, or the epoch has no whole batch.
    """
    if cfg.get('default_scope') != SCOPE or cfg.get('train_dataloader') is None:
        raise ConfigError('batches are shown of training configs of this toolbox (default_scope, train_dataloader)')
    seed = (cfg.get('randomness') or {}).get('seed')
    if seed is None:
        raise ConfigError('randomness.seed is not set: each run draws its own; set it to see the batches of a run')
    if iteration < 0:
        raise ConfigError(f'the iteration is {iteration}, expected 0 or more')
    with preserved_random_state(), torch.random.fork_rng():
        batch = _loaded(cfg, seed, iteration)
        model = fresh_model(cfg)
        model = model.cuda() if torch.cuda.is_available() else model  # the device that trains
        seed_iteration(seed, 0, iteration)
        data = model.data_preprocessor(batch, True)
        inputs = data['inputs']
        masks = _masks(model, inputs)
    views = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    return ModelBatch(views, masks, *pixel_statistics(model), _names(data.get('data_samples'), len(views[0])))


def _loaded(cfg: Config, seed: int, iteration: int) -> Any:
    """The collated batch."""
    options = {'num_workers': 0, 'persistent_workers': False, 'prefetch_factor': None}
    own = {key: value for key, value in options.items() if key in cfg.train_dataloader}
    loader = GraftRunner.build_dataloader({**cfg.train_dataloader, **own}, seed=seed)
    if len(loader) == 0:
        raise DataError(
            f'the training data has {len(loader.dataset)} images, fewer than one batch; lower '
            'train_dataloader.batch_size'
        )
    epoch, place = divmod(iteration, len(loader))
    sampler: Any = loader.sampler
    if hasattr(sampler, 'set_seed'):
        sampler.set_seed(seed)
    if hasattr(sampler, 'set_epoch'):
        sampler.set_epoch(epoch)
    if hasattr(sampler, 'skip') and loader.batch_size:
        sampler.skip(place * loader.batch_size)
        place = 0
    batches = iter(loader)
    for _ in range(place):
        next(batches)
    return next(batches)


@torch.no_grad()
def _masks(model: Any, inputs: Any) -> dict[int, torch.Tensor]:
    """View -> hidden pixels, by the draws of the model's loss, in their order."""
    if hasattr(model, 'draw_mask'):
        return {0: _hidden(model, model.draw_mask(inputs), inputs)}
    if hasattr(model, 'draw_keeps'):
        keeps = model.draw_keeps(inputs) or []
        return {view: _hidden(model, keep, inputs[view]) for view, keep in enumerate(keeps)}
    return _objective_masks(model, inputs)


def _objective_masks(model: Any, inputs: Any) -> dict[int, torch.Tensor]:
    """Likewise of a model with several objectives.

    Other draws may come first, so its losses are computed up to the last mask.
    """
    found: dict[int, torch.Tensor] = {}
    drawing = {name: each for name, each in getattr(model, 'objectives', {}).items() if hasattr(each, 'draw_mask')}

    def recorded(name: str, objective: Any, draw: Any) -> Any:
        def wrapper(images: torch.Tensor, *rest: Any) -> Any:
            mask = draw(images, *rest)
            found[model.views[name]] = _hidden(objective, mask, images)
            if len(found) == len(drawing):
                raise _Drawn
            return mask

        return wrapper

    for name, objective in drawing.items():
        objective.draw_mask = recorded(name, objective, objective.draw_mask)
    try:
        if drawing:
            model.objective_losses(inputs)
    except _Drawn:
        pass
    return found


def _hidden(model: Any, mask: Any, images: torch.Tensor) -> torch.Tensor:
    """Hidden pixels [B, 1, H, W] of a mask: of patches, of kept patches [B, K], or of blocks [B, h, w]."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    if isinstance(mask, PatchMask):
        mask = mask.mask.unflatten(1, tuple(model.backbone.patch_resolution))
    elif mask.dim() == 2:
        hidden = torch.ones(len(mask), model.backbone.num_patches, device=mask.device)
        mask = hidden.scatter(1, mask, 0.0).unflatten(1, tuple(model.backbone.patch_resolution))
    return expand_mask(mask, size).cpu()


def _names(samples: Sequence[Any] | None, count: int) -> list[str]:
    found = [getattr(each, 'img_path', None) for each in samples or [None] * count]
    return ['/'.join(Path(name).parts[-2:]) if name else f'image {number}' for number, name in enumerate(found)]
