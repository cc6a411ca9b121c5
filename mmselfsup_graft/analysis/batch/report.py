"""A page with a batch as the model of a config gets it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from mmselfsup_graft.analysis.pages.document import render, write_html
from mmselfsup_graft.analysis.pages.picture import Picture, picture
from mmselfsup_graft.errors import ConfigError

from .measure import ModelBatch

_TEMPLATES = Path(__file__).parent / 'templates'
_GRAY = 127.5
_LARGEST = 320


def write_batch(batch: ModelBatch, target: Path, count: int = 16, about: Mapping[str, str] | None = None) -> None:
    """Write a page with the views of the first images of a batch, and with their masks.

    Args:
        batch: The batch.
        target: HTML file to write.
        count: Number of images.
        about: Further facts for the head of the page.

    Raises:
        ConfigError: If no image is asked for.
    """
    if count < 1:
        raise ConfigError(f'at least one image must be shown, got {count}')
    columns = [column for view in range(len(batch.views)) for column in _columns(batch, view, count)]
    rows = [(name, [column[row] for column in columns]) for row, name in enumerate(batch.names[:count])]
    sizes = sorted({tuple(view.shape[-2:]) for view in batch.views}, reverse=True)
    facts = {
        **(about or {}),
        'Batch': f'{len(batch.views[0])} images, the first {len(rows)} are shown',
        'Views': f'{len(batch.views)} of ' + ', '.join(f'{h} x {w}' for h, w in sizes) + ' pixels',
        **{f'Hidden of view {view + 1}': f'{100 * float(mask.mean()):.1f} %' for view, mask in batch.masks.items()},
    }
    lead = 'What the model of a training gets: views after all augmentation, and its masks.'
    write_html(render('batch.html', _TEMPLATES, title='Batch', lead=lead, facts=facts, rows=rows), target)


def _columns(batch: ModelBatch, view: int, count: int) -> list[list[Picture]]:
    """Pictures of the first images in one view and, if it is masked, of what is left of them."""
    pixels, mask = batch.pixels(view)[:count], batch.masks.get(view)
    name = f'View {view + 1}'
    found = [[_drawn(each, name) for each in pixels]]
    if mask is not None:
        hidden = mask[:count]
        found.append([_drawn(each, f'{name}, masked') for each in pixels * (1 - hidden) + _GRAY * hidden])
    return found


def _drawn(pixels: torch.Tensor, title: str) -> Picture:
    image = np.moveaxis(pixels.round().clamp(0, 255).to(torch.uint8).numpy(), 0, -1)
    return picture(image[..., 0] if image.shape[-1] == 1 else image, title, title, largest=_LARGEST)
