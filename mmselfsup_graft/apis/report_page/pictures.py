"""Reconstructions of a page."""

from pathlib import Path

from mmselfsup_graft.apis.recipe import Recipe
from mmselfsup_graft.apis.stage_reconstructor import StageReconstructor, load_reconstructor
from mmselfsup_graft.visualization import reconstruct_images, reconstruct_photo
from mmselfsup_graft.visualization.reconstructions import NAMES
from mmselfsup_graft.visualization.report_page import Reconstruction

_FORMS = tuple(name.replace('\n', ' ') for name in NAMES)


def reconstructions_of(recipe: Recipe, work_dir: Path) -> list[Reconstruction]:
    """Of every stage that the report names."""
    names = recipe.report.get('reconstruct', [])
    return [_reconstruct(load_reconstructor(recipe, name, work_dir), name) for name in names]


def _reconstruct(stage: StageReconstructor, name: str) -> Reconstruction:
    share = f'{stage.model.mask_ratio:.0%} of the patches are hidden'
    learned = 'The stage learns to predict what is hidden; what it says about the visible part is not trained.'
    if stage.images is not None:
        pictures = reconstruct_images(stage.model, stage.images, stage.mean, stage.std)
        caption = f'Images that no training has seen, by the stage {name}. {share}. {learned}'
        return Reconstruction('Held-out images', caption, dict(zip(_FORMS, pictures)))
    photos = [
        reconstruct_photo(stage.model, photo, stage.window, stage.mean, stage.std) for photo in stage.photos.values()
    ]
    rows = {form: [each[kind][0] for each in photos] for kind, form in enumerate(_FORMS)}
    caption = f'By the stage {name}, in windows of {stage.window} x {stage.window} pixels. {share}. {learned}'
    return Reconstruction('Photographs', caption, rows, tuple(stage.photos))
