"""Features of a folder without labels, from a checkpoint, with a cache."""

import numpy as np
import pytest
import torch
from helpers import vit_config
from mmengine.config import Config
from PIL import Image

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.encoders import embed_images, load_encoder, raw_pixels
from mmselfsup_graft.evaluation.scoring import read_evaluation, score_checkpoint

PIPELINE = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
CFG = Config(
    dict(model=dict(backbone=vit_config(in_channels=1)), data_preprocessor=dict(mean=[10.0], std=[50.0], to_rgb=False))
)


@pytest.fixture
def images(tmp_path):
    """Five images without labels; the third cannot be read."""
    root = tmp_path / 'images'
    root.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 16, 16), dtype=np.uint8)
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(root / f'{number}.png')
    return dict(type='ImageFolder', data_root=str(root), pipeline=PIPELINE), pixels


def test_a_folder_without_labels(images, tmp_path):
    data, pixels = images
    encoder = load_encoder(CFG, None, cache=tmp_path / 'features')
    found = embed_images(encoder, data, ['class_token', 'patch_mean'])
    with torch.no_grad():
        tokens = encoder.backbone.cpu().encode((torch.from_numpy(pixels).float().unsqueeze(1) - 10) / 50)
    np.testing.assert_allclose(found.features['class_token'], tokens[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.features['patch_mean'], tokens[:, 1:].mean(1), rtol=1e-4, atol=1e-5)
    assert found.labels is None
    assert len(list((tmp_path / 'features').iterdir())) == 2
    again = embed_images(encoder, data, ['both'])  # joined from the files
    assert again.labels is None
    np.testing.assert_array_equal(again.features['both'], np.hstack(list(found.features.values())))
    np.testing.assert_allclose(embed_images(raw_pixels(), data).features['patch_mean'], pixels.reshape(5, -1) / 255.0)
    with pytest.raises(ConfigError, match='Pixels has no class token; use patch_mean'):
        embed_images(raw_pixels(), data, ['class_token'])


def test_unreadable_images_are_left_out_and_nothing_is_kept(images, tmp_path):
    data, _ = images
    (tmp_path / 'images' / '2.png').write_bytes(b'no picture')
    encoder = load_encoder(CFG, None, cache=tmp_path / 'features')
    found = embed_images(encoder, data, ['both'])
    assert found.indices.tolist() == [0, 1, 3, 4]
    assert found.features['both'].shape == (4, 32)
    assert not (tmp_path / 'features').exists()


def test_after_a_block_of_a_checkpoint(images, tmp_path):
    data, _ = images
    trained = load_encoder(CFG, None, seed=3).backbone
    save_atomically({'state_dict': {f'backbone.{n}': v for n, v in trained.state_dict().items()}}, tmp_path / 'a.pth')
    found = embed_images(load_encoder(CFG, tmp_path / 'a.pth', block=2), data, ['patch_mean'])
    expected = embed_images(load_encoder(CFG, None, block=2, seed=3), data, ['patch_mean'])
    np.testing.assert_array_equal(found.features['patch_mean'], expected.features['patch_mean'])
    other = embed_images(load_encoder(CFG, None, seed=3), data, ['patch_mean'])
    assert not np.allclose(found.features['patch_mean'], other.features['patch_mean'])


def test_the_feature_of_a_config_is_scored(images):
    digits = {
        name: dict(type='Digits', split=name, img_size=16, indices=60, pipeline=PIPELINE) for name in ('train', 'test')
    }
    results = {}
    for feature in (None, 'class_token', 'patch_mean', 'both'):
        cfg = Config({**CFG.to_dict(), 'evaluation': {**digits, 'knn': {}, 'feature': feature}})
        scores = score_checkpoint(cfg, None)
        results[feature] = scores.results
        assert scores.feature == (feature or 'class_token')
    assert results[None] == results['class_token']
    assert results['patch_mean'] != results['class_token'] != results['both']
    with pytest.raises(ConfigError, match=r"evaluation\.feature is 'cls'; choose from class_token, patch_mean, both"):
        read_evaluation(Config({**CFG.to_dict(), 'evaluation': {**digits, 'feature': 'cls'}}))
    with pytest.raises(DataError, match='labeled'):
        score_checkpoint(
            Config({**CFG.to_dict(), 'evaluation': {'train': images[0], 'test': images[0], 'knn': {}}}), None
        )
