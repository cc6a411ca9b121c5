"""Windows of scikit-learn's photographs."""

import numpy as np
import pytest

from mmselfsup_graft.datasets import SamplePhotos
from mmselfsup_graft.datasets.sample_photos import sample_photo
from mmselfsup_graft.errors import ConfigError


def test_test_windows_tile_the_photograph() -> None:
    data = SamplePhotos(split='test', window=16, height=64)
    photo = sample_photo('flower.jpg', 64, 1)
    columns = photo.shape[1] // 16
    assert len(data) == 4 * columns
    np.testing.assert_array_equal(data.get_data_info(columns + 2)['img'], photo[16:32, 32:48])


def test_training_windows_overlap_and_have_no_labels() -> None:
    data = SamplePhotos(split='train', window=16, height=64, stride=8, channels=3)
    photo = sample_photo('china.jpg', 64, 3)
    np.testing.assert_array_equal(data.get_data_info(1)['img'], photo[:16, 8:24])
    assert data.labels() is None


@pytest.mark.parametrize('options', [{'split': 'val'}, {'window': 65, 'height': 64}])
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match='SamplePhotos'):
        SamplePhotos(**options)
