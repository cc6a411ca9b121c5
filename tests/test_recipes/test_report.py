"""Pictures of a recipe's report, with a model whose answers are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmselfsup_graft.analysis.reconstruction import plot as drawing
from mmselfsup_graft.datasets.image_sets.sample_photos import sample_photo
from mmselfsup_graft.recipes import report, stage_reconstructor


class Model:
    """Hides nothing and answers with the mean color."""

    data_preprocessor = SimpleNamespace(mean=torch.full((3, 1, 1), 120.0), std=torch.full((3, 1, 1), 60.0))

    mask_patch, mask_ratio = 4, 0.5

    def reconstruct(self, inputs, *, mask=None):
        return torch.zeros_like(inputs), torch.zeros_like(inputs[:, :1])


@pytest.mark.parametrize(
    ('library', 'names'),
    [
        (None, ['china.jpg', 'flower.jpg']),
        ('scikit-image', ['astronaut.png', 'chelsea.png', 'rocket.jpg']),
        (['scikit-learn', 'scikit-image'], ['china.jpg', 'flower.jpg', 'chelsea.png']),
    ],
)
def test_photos_are_shown_as_a_whole(library, names, tmp_path, monkeypatch):
    data = dict(type='SamplePhotos', window=16, height=40, channels=3, **({'library': library} if library else {}))
    stage = SimpleNamespace(cfg=Config({'train_dataloader': {'dataset': data}}))
    shown = {}
    draw = drawing.draw_photo_reconstructions

    def keep(model, photos, *arguments):
        shown.update(photos)
        draw(model, photos, *arguments)

    monkeypatch.setattr(drawing, 'draw_photo_reconstructions', keep)
    monkeypatch.setattr(stage_reconstructor, 'load_model', lambda cfg, checkpoint: Model())
    monkeypatch.setattr(stage_reconstructor, 'stage_checkpoint', lambda work_dir, name: 'any.pth')
    report.draw_stage_reconstructions(SimpleNamespace(stage=lambda name: stage), 'mim', tmp_path)
    with Image.open(tmp_path / 'reconstructions_mim.png') as picture:
        assert picture.width > 1000
    said = ['trained on'] + ['never seen'] * (len(names) - 1)
    assert list(shown) == [f'{name[:-4]}, {what}' for name, what in zip(names, said)]
    for photo, name in zip(shown.values(), names):
        source = 'scikit-learn' if name in ('china.jpg', 'flower.jpg') else 'scikit-image'
        np.testing.assert_array_equal(photo, sample_photo(name, 40, 3, source))
