import torchvision.transforms.functional as F
from test_datasets.test_augment.beside_pil import PHOTOS, apart, batch_of, worst

from mmselfsup_graft.datasets.augment.grayscale import grayscale_array, grayscale_batch


def test_grayscale():
    assert worst(grayscale_array, lambda x: F.rgb_to_grayscale(x, 3))[0] <= 1
    assert apart(PHOTOS, grayscale_batch(batch_of(PHOTOS)), [lambda x: F.rgb_to_grayscale(x, 3)] * 3).max() <= 1
