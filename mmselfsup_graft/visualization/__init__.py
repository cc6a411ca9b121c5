"""Pictures: reconstructions, loss curves, learning rate and conflict over depth."""

from .conflict import draw_conflict
from .curves import draw_loss_curves, draw_lr_over_depth
from .reconstructions import draw_photo_reconstructions, draw_reconstructions, reconstruct_photo

__all__ = [
    'draw_conflict',
    'draw_loss_curves',
    'draw_lr_over_depth',
    'draw_photo_reconstructions',
    'draw_reconstructions',
    'reconstruct_photo',
]
