"""Images, and how far results are from PIL's on them, in gray levels; the bounds are those of docs/speed.md."""

import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image
from test_datasets.test_fast.images import difference, photo

from mmselfsup_graft.datasets.augment import pack_batch, unpack

PHOTOS = [photo(number) for number in range(3)]
GRAY = [np.array(Image.fromarray(image).convert('L')) for image in PHOTOS]
NOISE = np.random.RandomState(0).randint(0, 256, (100, 120, 3), dtype=np.uint8)
NOISES = list(np.random.RandomState(0).randint(0, 256, (3, 100, 120, 3), dtype=np.uint8))
FACTORS = (0.6, 1.0, 1.37)


def batch_of(images) -> torch.Tensor:
    """Arrays as uint8 [B, C, H, W]."""
    return torch.stack([F.pil_to_tensor(Image.fromarray(image)) for image in images])


def batched(rows):
    """Rows of one operation for several images as the device gets them."""
    (row,) = unpack(pack_batch([[row] for row in rows]))
    return row


def worst(ours, pils, images=(*PHOTOS, NOISE)) -> tuple[int, float]:
    """Largest difference, and the largest of the images' mean differences."""
    apart = [difference(ours(image.copy()), pils(Image.fromarray(image))) for image in images]
    return max(int(each.max()) for each in apart), max(float(each.mean()) for each in apart)


def apart(images, ours: torch.Tensor, pils) -> torch.Tensor:
    """Differences of our result, all images at once, from PIL's, one by one."""
    expected = batch_of([np.asarray(pil(Image.fromarray(image))) for image, pil in zip(images, pils)])
    assert ours.dtype == torch.uint8
    assert ours.shape == expected.shape
    return (ours.int() - expected.int()).abs()
