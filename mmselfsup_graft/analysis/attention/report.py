"""A page with attention and patch features of an encoder over images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmselfsup_graft.analysis.pages.document import render, write_html
from mmselfsup_graft.analysis.pages.picture import Picture, picture
from mmselfsup_graft.analysis.pages.shown import Image
from mmselfsup_graft.errors import DataError, NonFiniteError
from mmselfsup_graft.evaluation.embedding.raw_images import as_pixels, image_files
from mmselfsup_graft.evaluation.encoders import Encoder
from mmselfsup_graft.evaluation.features import device_of

from .measure import Attention, attention_maps, has_attention, patch_features, principal_colors
from .plot import as_image, enlarged, over_image

_TEMPLATES = Path(__file__).parent / 'templates'
_LARGEST = 512  # dots of a picture


def write_attention(
    encoder: Encoder,
    files: Sequence[Path],
    target: Path,
    count: int = 6,
    block: int | None = None,
    about: Mapping[str, str] | None = None,
) -> int:
    """Write a page: every image, its attention per head and on average, and its patch features as colors.

    Encoders without a plain attention show the patch features alone.

    Args:
        encoder: The encoder, with a pipeline for images of any size.
        files: Images, and folders of which the first ``count`` images are taken.
        target: HTML file to write.
        count: See there.
        block: Block of the attention, counted from 1; None for the last one.
        about: Further facts for the head of the page.

    Returns:
        The number of images.

    Raises:
        ConfigError: If there is no such block, or the encoder gives one vector per image.
        DataError: If an image cannot be read, or there is none.
        NonFiniteError: If features hold NaN or infinity.
    """
    paths = image_files(files, count)
    if not paths:
        raise DataError('there is no image to draw')
    backbone: Any = encoder.backbone
    pixels = as_pixels([str(path) for path in paths], encoder.pipeline)
    preprocessor = encoder.preprocessor.to(device_of(backbone))
    inputs = preprocessor({'inputs': pixels, 'data_samples': None}, False)['inputs']
    features = patch_features(backbone, inputs)
    if not torch.isfinite(features).all():
        raise NonFiniteError(f'{encoder.name} gives NaN or infinite features; its training diverged')
    colors = principal_colors(features.cpu().numpy())
    attention = attention_maps(backbone, inputs, block) if has_attention(backbone) or block is not None else None
    images = [_shown(each) for each in pixels]
    rows = [
        ('/'.join(path.parts[-2:]), _pictures(image, color, attention, row))
        for row, (path, image, color) in enumerate(zip(paths, images, colors))
    ]
    facts = {**(about or {}), **_facts(backbone, attention, block, features)}
    page = render(
        'attention.html', _TEMPLATES, title='Attention', lead=_LEAD, facts=facts, rows=rows, drawn=attention is not None
    )
    write_html(page, target)
    return len(paths)


_LEAD = 'What an encoder looks at, and which patches it finds similar.'


def _shown(pixels: torch.Tensor) -> Image:
    """Raw pixels [C, H, W] as an image of a visible size."""
    image = np.moveaxis(pixels.clamp(0, 255).to(torch.uint8).numpy(), 0, -1)
    return enlarged(image[..., 0] if image.shape[-1] == 1 else image)


def _pictures(image: Image, colors: np.ndarray, attention: Attention | None, row: int) -> list[Picture]:
    found = [
        picture(image, 'The image as the encoder sees it', 'Image', largest=_LARGEST),
        picture(
            as_image(colors, image), 'Principal components of the patch features', 'Patch features', largest=_LARGEST
        ),
    ]
    if attention is None:
        return found
    maps, share = attention.maps[row].cpu().numpy(), attention.share[row].cpu().numpy()
    mean = over_image(image, (maps * share[:, None, None]).mean(0))
    found.append(
        picture(mean, 'Mean attention of all heads', 'All heads', f'{100 * share.mean():.0f} % on patches', _LARGEST)
    )
    for head, weights in enumerate(maps):
        text = f'{100 * share[head]:.0f} % on patches'
        found.append(picture(over_image(image, weights), f'Attention of head {head}', f'Head {head}', text, _LARGEST))
    return found


def _facts(backbone: Any, attention: Attention | None, block: int | None, features: torch.Tensor) -> dict[str, str]:
    facts = {'Patches': f'{features.shape[1]} x {features.shape[2]}'}
    if attention is not None:
        facts['Block'] = f'{block or len(backbone.layers)} of {len(backbone.layers)}'
        facts['Heads'] = str(attention.maps.shape[1])
    return facts
