"""Predictions of a fine-tuned classifier: those of the model itself, with names, and files that cannot be read."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_tools.tiny_runs import call_tool, write_config

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.finetuning.predicting import predict
from mmselfsup_graft.registry import MODELS

PIPELINE = [
    dict(type='LoadImage', channels=1),
    dict(type='mmpretrain.torchvision/Resize', size=8),
    dict(type='mmpretrain.torchvision/CenterCrop', size=8),
    dict(type='mmpretrain.PackInputs'),
]
BACKBONE = dict(
    type='SelfSupViT',
    arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16),
    img_size=8,
    patch_size=4,
    in_channels=1,
)
MODEL = dict(
    type='GraftedClassifier',
    backbone=BACKBONE,
    head=dict(
        type='mmpretrain.LinearClsHead', num_classes=3, in_channels=16, loss=dict(type='mmpretrain.CrossEntropyLoss')
    ),
)
NORM = dict(type='ClsDataPreprocessor', num_classes=3, mean=[100.0], std=[50.0], to_rgb=False)


@pytest.fixture
def tuned(tmp_path):
    """A classifier with its config beside the file, and images."""
    torch.manual_seed(0)
    model = MODELS.build({**MODEL, 'data_preprocessor': NORM}).eval()
    torch.nn.init.normal_(model.head.fc.weight)
    run, images = tmp_path / 'run', tmp_path / 'images'
    dataset = dict(type='ImageFolder', data_root='nowhere', pipeline=PIPELINE)
    loader = dict(batch_size=4, num_workers=0, sampler=dict(type='SeededSampler', shuffle=False), dataset=dataset)
    content = dict(default_scope='mmselfsup_graft', model=MODEL, data_preprocessor=NORM, test_dataloader=loader)
    write_config(run / 'tuned.py', content)
    meta = {'dataset_meta': {'classes': ('ant', 'bee', 'cat')}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, run / 'best.pth')
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(images / f'{number}.png')
    return model, run / 'best.pth', images


@torch.no_grad()
def direct(model, path) -> dict[str, float]:
    """Class -> probability, by the layers of the model alone."""
    pixels = torch.from_numpy(np.array(Image.open(path), dtype=np.float32))[None, None]
    scores = model.head.fc(model.backbone((pixels - 100) / 50)[-1]).softmax(1)[0]
    return dict(zip(('ant', 'bee', 'cat'), scores.tolist()))


def test_predictions_are_those_of_the_model(tuned):
    model, checkpoint, images = tuned
    found = predict(checkpoint, [images / '1.png', images], top=3)
    assert [each.image for each in found] == [str(images / f'{number}.png') for number in (1, 0, 1, 2)]
    for each in found:
        expected = direct(model, each.image)
        assert [name for name, _ in each.classes] == sorted(expected, key=expected.get, reverse=True)
        np.testing.assert_allclose([value for _, value in each.classes], sorted(expected.values())[::-1], rtol=1e-4)


def test_a_file_that_is_not_an_image_is_named(tuned, tmp_path):
    _, checkpoint, images = tuned
    (images / 'bad.png').write_text('no image')
    done = call_tool('predict', checkpoint, images, '--top', 1, '--out', tmp_path / 'out.json')
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 3
    assert f'not read: {images / "bad.png"}' in done.err
    rows = json.loads((tmp_path / 'out.json').read_text())
    assert [len(row['classes']) for row in rows] == [1, 1, 1, 0]


def test_what_is_missing(tuned, tmp_path):
    _, checkpoint, images = tuned
    with pytest.raises(DataError, match=r'gone\.png: no such file'):
        predict(checkpoint, images / 'gone.png')
    (checkpoint.parent / 'tuned.py').unlink()
    with pytest.raises(ConfigError, match='no config beside'):
        predict(checkpoint, images)
