"""Images that cannot be read are left out of an evaluation, not scored as their replacement."""

from pathlib import Path

import numpy as np
from PIL import Image

from mmselfsup_graft.datasets import ImageFolder
from mmselfsup_graft.evaluation import embed, pixel_encoder, pixels_as_features


def test_rows_of_unreadable_images_are_missing(tmp_path: Path) -> None:
    for label, name in enumerate('ab'):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new('L', (4, 4), 100 * label + number).save(tmp_path / name / f'{number}.png')
    (tmp_path / 'a/1.png').write_bytes(b'no picture')
    pipeline = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
    pixels, labels = pixels_as_features(ImageFolder(str(tmp_path), pipeline=pipeline), batch_size=2)
    assert labels.tolist() == [0, 0, 1, 1, 1]
    embedded = embed(*pixel_encoder(), ImageFolder(str(tmp_path), pipeline=pipeline), batch_size=2)
    assert embedded.indices.tolist() == [0, 2, 3, 4, 5]
    np.testing.assert_allclose(pixels[:, 0] * 255, [0, 2, 100, 101, 102], rtol=1e-6)
