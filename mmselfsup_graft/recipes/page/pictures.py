"""Reconstructions on a page."""

import contextlib
from pathlib import Path

from mmselfsup_graft.analysis.reconstruction.plot import NAMES, reconstruct_images, reconstruct_photo
from mmselfsup_graft.errors import NonFiniteError
from mmselfsup_graft.recipes.recipe import Recipe
from mmselfsup_graft.recipes.stage_reconstructor import StageReconstructor, load_reconstructor

from .content import Reconstruction

_FORMS = tuple(name.replace('\n', ' ') for name in NAMES)
_OF_PHOTOS = {'original': 0, 'masked': 1, 'reconstruction, visible part pasted in': 3}  # of the four


def reconstructions_of(recipe: Recipe, work_dir: Path) -> list[Reconstruction]:
    """Reconstructions of every stage in the report that did not diverge."""
    found = []
    for name in recipe.report.get('reconstruct', []):
        with contextlib.suppress(NonFiniteError):
            found.append(_reconstruct(load_reconstructor(recipe, name, work_dir), name_of(recipe, name)))
    return found


def name_of(recipe: Recipe, stage: str) -> str:
    """Name of a stage in the table; without a row, its title in ``report.titles``, else its own name."""
    names = {row['stage']: row['name'] for row in recipe.report.get('rows', [])}
    return {**recipe.report.get('titles', {}), **names}.get(stage, stage)


def _reconstruct(stage: StageReconstructor, name: str) -> Reconstruction:
    share = f'{stage.model.mask_ratio:.0%} of the patches are hidden'
    if stage.images is not None:
        pictures = reconstruct_images(stage.model, stage.images, stage.mean, stage.std)
        seen = 'Held-out images' if stage.held_out else 'Images of the training data'
        caption = (
            f'{seen}, by {name}; {share}. The training asks for hidden patches only, so what '
            'the reconstruction shows in place of visible ones has no meaning.'
        )
        return Reconstruction('Held-out images' if stage.held_out else 'Images', caption, dict(zip(_FORMS, pictures)))
    photos = [
        reconstruct_photo(stage.model, photo, stage.window, stage.mean, stage.std) for photo in stage.photos.values()
    ]
    rows = {form: [each[kind][0] for each in photos] for form, kind in _OF_PHOTOS.items()}
    caption = f'By {name}, in windows of {stage.window} x {stage.window} pixels; {share}.'
    return Reconstruction('Photographs', caption, rows, tuple(stage.photos))
