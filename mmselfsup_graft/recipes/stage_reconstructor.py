"""Reconstruction by a masked-image stage of a recipe: held-out images, or complete photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmselfsup_graft.analysis.reconstruction.report import spread_images
from mmselfsup_graft.datasets.image_sets.sample_photos import photos_of, sample_photo
from mmselfsup_graft.evaluation.whole_model import load_model
from mmselfsup_graft.registry import DATASETS

from .recipe import Recipe, stage_checkpoint
from .recipe_data import is_held_out

_IMAGES = 10
# one training image is enough to see what was learned; the others show how it generalizes
_SHOWN = (('train', 'trained on', 1), ('test', 'never seen', 2))


@dataclass(frozen=True)
class StageReconstructor:
    """A masked-image model and the images it reconstructs.

    Attributes:
        model: In eval mode.
        mean: Mean of its preprocessor per channel, for pixels 0..255.
        std: Likewise.
        photos: Name -> photograph, uint8 [H, W] or [H, W, 3]; empty if there are images.
        window: Side of the model's input, for photographs.
        images: Test images [N, C, H, W], raw pixels; None if there are photographs.
        held_out: Whether no training has seen them.
    """

    model: Any
    mean: list[float]
    std: list[float]
    photos: dict[str, np.ndarray]
    window: int
    images: torch.Tensor | None
    held_out: bool = True


def load_reconstructor(recipe: Recipe, name: str, work_dir: Path) -> StageReconstructor:
    """The final model of a stage with the images to reconstruct.

    Raises:
        ConfigError: If the model predicts no pixels.
    """
    from mmselfsup_graft.analysis.reconstruction.plot import find_reconstructor, pixel_statistics

    stage = recipe.stage(name)
    whole: Any = load_model(stage.cfg, stage_checkpoint(work_dir, name))
    model, _ = find_reconstructor(whole)
    data = stage.cfg.train_dataloader.dataset
    of_photos = data.type == 'SamplePhotos'
    photos = _whole_photos(data) if of_photos else {}
    images = None if of_photos else spread_images(DATASETS.build(stage.cfg.evaluation.test), _IMAGES)
    held_out = of_photos or is_held_out(stage.cfg)
    return StageReconstructor(model, *pixel_statistics(whole), photos, data.get('window', 16), images, held_out)


def _whole_photos(data: Any) -> dict[str, np.ndarray]:
    """Name -> photograph of either split of the :class:`SamplePhotos` that a config trains on."""
    size = {'height': data.get('height', 160), 'channels': data.get('channels', 1)}
    return {
        f'{Path(name).stem}, {said}': sample_photo(name, library=library, **size)
        for split, said, count in _SHOWN
        for library, name in photos_of(data.get('library', 'scikit-learn'), split)[:count]
    }
