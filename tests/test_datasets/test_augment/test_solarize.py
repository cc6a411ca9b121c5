import torch
import torchvision.transforms.functional as F
from test_datasets.test_augment.beside_pil import GRAY, NOISE, NOISES, apart, batch_of, worst

from mmselfsup_graft.datasets.augment.solarize import solarize_array, solarize_batch


def test_solarize():
    assert worst(lambda x: solarize_array(x, 128.0), lambda x: F.solarize(x, 128), (NOISE, GRAY[0]))[0] == 0
    assert worst(lambda x: solarize_array(x, 77.0), lambda x: F.solarize(x, 77))[0] == 0
    thresholds = (128, 77, 255)
    pils = [lambda x, t=threshold: F.solarize(x, t) for threshold in thresholds]
    assert apart(NOISES, solarize_batch(batch_of(NOISES), torch.tensor(thresholds).float()), pils).max() == 0
