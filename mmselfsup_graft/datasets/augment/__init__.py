"""Operations of augmentation, one module each: the draw, the PIL form where it is ours, the array and the batched form.

PIL transforms draw from torch's global CPU generator only and keep the mode (``RGB`` or ``L``) of the image.
"""

from .affine import Affine
from .blur import Blur, PILGaussianBlur
from .color_jitter import ColorJitter
from .crop import Crop, CropRow
from .flip import Flip
from .grayscale import Grayscale
from .noise import Noise, PILGaussianNoise
from .operation import DeferrableRow, Group, Operation, Row
from .packing import Packed, of_images, pack, pack_batch, unpack
from .random_apply import AllOrNone, RandomApply
from .solarize import Solarize

#: every operation but :class:`AllOrNone`, which holds others
OPERATIONS: tuple[type[Operation], ...] = (Crop, Affine, Flip, ColorJitter, Grayscale, Solarize, Blur, Noise)

__all__ = [
    'OPERATIONS',
    'Affine',
    'AllOrNone',
    'Blur',
    'ColorJitter',
    'Crop',
    'CropRow',
    'DeferrableRow',
    'Flip',
    'Grayscale',
    'Group',
    'Noise',
    'Operation',
    'PILGaussianBlur',
    'PILGaussianNoise',
    'Packed',
    'RandomApply',
    'Row',
    'Solarize',
    'of_images',
    'pack',
    'pack_batch',
    'unpack',
]
