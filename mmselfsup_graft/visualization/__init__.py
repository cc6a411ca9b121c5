"""Pictures: reconstructions, loss curves, learning rate and conflict over depth, interactions, spectra of features."""

from .conflict import draw_conflict
from .curves import draw_loss_curves, draw_lr_over_depth
from .feature_spectrum import draw_over_depth, draw_spectra
from .interaction import draw_interaction
from .picture_grid import draw_rows, draw_titled_rows
from .reconstructions import (
    Pictures,
    draw_photo_reconstructions,
    draw_pictures,
    draw_reconstructions,
    find_reconstructor,
    pixel_statistics,
    reconstruct_images,
    reconstruct_photo,
)
from .stitching import Reconstructor, reconstruct_stitched

__all__ = [
    'Pictures',
    'Reconstructor',
    'draw_conflict',
    'draw_interaction',
    'draw_loss_curves',
    'draw_lr_over_depth',
    'draw_over_depth',
    'draw_photo_reconstructions',
    'draw_pictures',
    'draw_reconstructions',
    'draw_rows',
    'draw_spectra',
    'draw_titled_rows',
    'find_reconstructor',
    'pixel_statistics',
    'reconstruct_images',
    'reconstruct_photo',
    'reconstruct_stitched',
]
