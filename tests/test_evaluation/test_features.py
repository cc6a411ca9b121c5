"""Frozen features: equal to a forward pass by hand, for both families of encoders."""

import numpy as np
import pytest
import torch
from helpers import build, mae_config, moco_config, vit_config
from torch.utils.data import Dataset

from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.errors import CheckpointError, DataError
from mmselfsup_graft.evaluation import embed, extract_features, load_backbone, pixels_as_features
from mmselfsup_graft.evaluation.encoders import preprocessor_of
from mmselfsup_graft.registry import DATASETS, MODELS

MEAN, STD = [10.0, 20.0, 30.0], [50.0, 60.0, 70.0]
RESNET = dict(type='mmpretrain.ResNet', depth=18, out_indices=(3,))


class Packed(Dataset):
    """Packed samples as the pipelines make them: uint8 images [3, 16, 16]."""

    def __init__(self, count: int = 5, labeled: bool = True, as_list: bool = False) -> None:
        from mmpretrain.structures import DataSample

        torch.manual_seed(1)
        self.images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8)
        self.samples = [DataSample() for _ in range(count)]
        for number, sample in enumerate(self.samples):
            if labeled:
                sample.set_gt_label(number % 3)
        self.as_list = as_list

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        image = self.images[index]
        return {'inputs': [image] if self.as_list else image, 'data_samples': self.samples[index]}


@pytest.fixture(scope='module')
def preprocessor():
    return MODELS.build(dict(type='mmpretrain.SelfSupDataPreprocessor', mean=MEAN, std=STD, to_rgb=False))


def normalized(images: torch.Tensor) -> torch.Tensor:
    return (images.float() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.mark.parametrize('as_list', [False, True])
def test_feature_of_a_vit_is_its_class_token_after_the_norm(as_list, preprocessor):
    vit, data = load_backbone(vit_config(), None), Packed(as_list=as_list)
    assert not vit.training
    features, labels = extract_features(vit, preprocessor, data, batch_size=2)
    with torch.no_grad():
        expected = vit.encode(normalized(data.images))[:, 0]
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert features.dtype == np.float32
    assert labels.tolist() == [0, 1, 2, 0, 1]
    assert labels.dtype == np.int64
    assert not torch.allclose(expected[0], expected[1])


def test_all_features_by_one_pass_with_and_without_labels(preprocessor):
    vit = load_backbone(vit_config(), None)
    calls: list[int] = []
    vit.patch_embed.register_forward_hook(lambda *_: calls.append(1))
    for labeled in (True, False):
        data = Packed(labeled=labeled)
        found = embed(vit, preprocessor, data, ['both', 'patch_mean', 'class_token'], batch_size=2)
        with torch.no_grad():
            tokens = vit.encode(normalized(data.images))
        expected = {'class_token': tokens[:, 0], 'patch_mean': tokens[:, 1:].mean(1)}
        expected['both'] = torch.cat([expected['class_token'], expected['patch_mean']], dim=1)
        assert list(found.features) == ['both', 'patch_mean', 'class_token']
        for name, rows in found.features.items():
            np.testing.assert_allclose(rows, expected[name].numpy(), rtol=1e-5, atol=1e-6)
        assert found.indices.tolist() == [0, 1, 2, 3, 4]
        assert (found.labels is None) != labeled
    assert len(calls) == 2 * (3 + 1)
    assert embed(vit, preprocessor, data, batch_size=2).features.keys() == {'class_token'}
    mean, _ = extract_features(vit, preprocessor, Packed(), batch_size=3, feature='patch_mean')
    np.testing.assert_allclose(mean, expected['patch_mean'].numpy(), rtol=1e-5, atol=1e-6)


def test_feature_of_a_resnet_is_its_map_averaged(preprocessor):
    resnet, data = load_backbone(RESNET, None), Packed()
    features, _ = extract_features(resnet, preprocessor, data, batch_size=3)
    with torch.no_grad():
        (last,) = resnet(normalized(data.images))
    assert last.shape[1:] == (512, 1, 1)
    np.testing.assert_allclose(features, last.mean((2, 3)).numpy(), rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # batch norm runs on stored statistics: the batch does not matter
        (alone,) = resnet(normalized(data.images[:1]))
    np.testing.assert_allclose(features[0], alone.mean((2, 3))[0].numpy(), rtol=1e-5, atol=1e-6)


def test_pixels_are_features_in_zero_to_one():
    data = Packed()
    features, labels = pixels_as_features(data, batch_size=2)
    assert features.shape == (5, 3 * 16 * 16)
    np.testing.assert_allclose(features, data.images.flatten(1).numpy() / 255.0, rtol=1e-6)
    assert labels.tolist() == [0, 1, 2, 0, 1]


def test_unlabeled_images_are_refused(preprocessor):
    data = Packed(labeled=False)
    with pytest.raises(DataError, match='one sub-folder per class'):
        extract_features(load_backbone(vit_config(), None), preprocessor, data)
    with pytest.raises(DataError, match='one sub-folder per class'):
        pixels_as_features(data)


def test_a_fresh_encoder_depends_on_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (load_backbone(vit_config(), None, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first['layers.0.attn.qkv.weight'], other['layers.0.attn.qkv.weight'])


@pytest.mark.parametrize('config', [mae_config(), moco_config()], ids=['mae', 'mocov3'])
def test_the_encoder_of_a_pretraining_checkpoint_is_taken_whole(config, tmp_path):
    model = build(config)
    model.init_weights()
    with torch.no_grad():
        model.backbone.cls_token.fill_(0.25)
    save_atomically({'state_dict': model.state_dict()}, tmp_path / 'epoch_1.pth')
    backbone = load_backbone(vit_config(), tmp_path / 'epoch_1.pth')
    expected = model.backbone.state_dict()
    assert backbone.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ('other', 'says'),
    [
        (vit_config(width=32), r'has shape \(1, 1, 32\), expected \(1, 1, 16\)'),
        (vit_config(depth=2), r'it has 2 blocks, expected 3'),
    ],
)
def test_a_wrong_checkpoint_is_refused(other, says, tmp_path):
    save_atomically({'state_dict': build(moco_config(other)).state_dict()}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=says):
        load_backbone(vit_config(depth=3), tmp_path / 'other.pth')


def test_a_resnet_checkpoint_is_no_vit(tmp_path):
    save_atomically({'state_dict': MODELS.build(RESNET).state_dict()}, tmp_path / 'resnet.pth')
    with pytest.raises(CheckpointError, match=r'resnet\.pth'):
        load_backbone(vit_config(), tmp_path / 'resnet.pth')


def test_digits_through_their_own_pipeline():
    from mmengine.config import Config

    pipeline = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
    data = DATASETS.build(dict(type='Digits', split='test', img_size=8, indices=30, pipeline=pipeline))
    pixels, labels = pixels_as_features(data)
    assert pixels.shape == (30, 64)
    assert labels.tolist() == data.labels().tolist()
    cfg = Config(dict(model=dict(), data_preprocessor=dict(mean=[78.0], std=[81.0], to_rgb=False)))
    vit = load_backbone(vit_config(img_size=8, in_channels=1), None)
    features, _ = extract_features(vit, preprocessor_of(cfg), data, batch_size=7)
    images = torch.from_numpy((pixels * 255).reshape(30, 1, 8, 8)).float()
    with torch.no_grad():
        expected = vit((images - 78.0) / 81.0)[-1]
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-4, atol=1e-5)
