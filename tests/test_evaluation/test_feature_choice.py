"""Class token, mean of the patches or both, after any block, for every protocol: scores of features made by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from helpers import vit_config
from mmengine.config import Config

from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import linear_accuracy, load_backbone
from mmselfsup_graft.evaluation.features import join_parts
from mmselfsup_graft.evaluation.protocols.names import score_features
from mmselfsup_graft.evaluation.scoring import read_evaluation, score_checkpoint
from mmselfsup_graft.registry import DATASETS, PROTOCOLS

PIPELINE = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.PackInputs')]
PROTOCOL_SETTINGS: dict[str, dict[str, Any]] = {
    'linear': dict(scales=[0.1, 10.0], factors=[3.0], epochs=3, batch_size=20),
    'logistic': dict(regularisation=0.1),
    'few_shot': dict(shots=[2], draws=3),
    'knn': dict(k=[3]),
}
DATA = {
    **{n: dict(type='Digits', split=n, img_size=16, indices=60, pipeline=PIPELINE) for n in ('train', 'test')},
    'augmented': dict(type='Digits', split='train', img_size=16, indices=60, pipeline=PIPELINE),
}
BACKBONES = {
    'vit': vit_config(in_channels=1),
    'resnet': dict(type='mmpretrain.ResNet', depth=18, in_channels=1, stem_channels=4, base_channels=4),
    'convnext': dict(
        type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1], channels=[4, 8]), out_indices=1, in_channels=1
    ),
    'swin': dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
        img_size=16,
        patch_size=2,
        window_size=4,
        out_indices=(1,),
        in_channels=1,
    ),
}


def settings(kind: str, **choice: Any) -> Config:
    section = {**DATA, **PROTOCOL_SETTINGS, **choice}
    statistics = dict(mean=[10.0], std=[50.0], to_rgb=False)
    return Config(dict(model=dict(backbone=BACKBONES[kind]), data_preprocessor=statistics, evaluation=section))


def test_every_protocol_is_tested() -> None:
    assert PROTOCOL_SETTINGS.keys() == PROTOCOLS.module_dict.keys()


def pixels_of(dataset: SelfSupDataset) -> torch.Tensor:
    images = torch.stack([dataset[index]['inputs'] for index in range(len(dataset))]).float()
    return (images - 10.0) / 50.0


@torch.no_grad()
def tokens_after(vit: Any, images: torch.Tensor, block: int | None) -> torch.Tensor:
    """Tokens [N, L, D] of a plain loop over the blocks; the final norm follows the last one only."""
    x = torch.cat([vit.cls_token.expand(len(images), -1, -1), vit.patch_embed(images)[0]], 1) + vit.pos_embed
    for layer in vit.layers[:block]:
        x = layer(x)
    return vit.ln1(x) if block is None else x


def expected_scores(name: str, protocol: Any, sets: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    score = linear_accuracy if name == 'linear' else score_features
    return score(sets['train'], sets['test'], protocol)


@pytest.mark.parametrize('block', [None, 1, 2])
@pytest.mark.parametrize('feature', ['class_token', 'patch_mean', 'both'])
def test_scores_of_a_vit_are_those_of_features_made_by_hand(feature: str, block: int | None) -> None:
    cfg = settings('vit', feature=feature, block=block)
    vit, sets = load_backbone(cfg.model.backbone, None), {}
    for name in ('train', 'test'):
        dataset = DATASETS.build(cfg.evaluation[name])
        tokens = tokens_after(vit, pixels_of(dataset), block)
        parts = {'class_token': tokens[:, 0].numpy(), 'patch_mean': tokens[:, 1:].mean(1).numpy()}
        joined = np.concatenate([parts['class_token'], parts['patch_mean']], 1)
        sets[name] = ({**parts, 'both': joined}[feature], dataset.labels())
        np.testing.assert_array_equal(join_parts(parts, feature), sets[name][0])
    found = score_checkpoint(cfg, None).results
    for name, protocol in read_evaluation(cfg).protocols.items():
        wanted = expected_scores(name, protocol, sets)
        if name == 'few_shot':
            assert found[name].keys() == wanted.keys()
            continue
        assert found[name]['accuracy'] == pytest.approx(wanted['accuracy'], abs=1.7), name  # one of 60 may flip


@pytest.mark.parametrize('kind', ['resnet', 'convnext', 'swin'])
def test_every_protocol_scores_the_mean_of_a_map(kind: str) -> None:
    cfg = settings(kind)
    encoder: Any = load_backbone(cfg.model.backbone, None)
    sets = {}
    for name in ('train', 'test'):
        dataset = DATASETS.build(cfg.evaluation[name])
        with torch.no_grad():
            output = encoder(pixels_of(dataset))[-1]
        sets[name] = ((output.flatten(2).mean(2) if output.dim() == 4 else output).numpy(), dataset.labels())
    found = score_checkpoint(cfg, None)
    assert found.feature == 'patch_mean'
    for name, protocol in read_evaluation(cfg).protocols.items():
        if name != 'few_shot':
            wanted = expected_scores(name, protocol, sets)
            assert found.results[name]['accuracy'] == pytest.approx(wanted['accuracy'], abs=1.7), name


def test_a_block_must_be_a_number_from_one() -> None:
    for wrong in (0, -1, 1.5, '2', True):
        with pytest.raises(ConfigError, match=r'evaluation\.block is .* counted from 1'):
            read_evaluation(settings('vit', block=wrong))
    with pytest.raises(ConfigError, match='block 4 does not exist: the encoder has blocks 1 to 3'):
        score_checkpoint(settings('vit', block=4), None)
    other = score_checkpoint(settings('vit', block=1), None, block=2)  # of a call, which counts more
    assert other.results['knn'] == score_checkpoint(settings('vit', block=2), None).results['knn']
