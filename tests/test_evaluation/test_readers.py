"""Whatever reads an encoder refuses one that it cannot take whole, and one with other attention heads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plain_vit
import pytest
import torch
from helpers import build, mae_config, tec_config
from mmengine.config import Config
from PIL import Image

from mmselfsup_graft.analysis.spectrum.report import load_backbone as of_the_spectrum
from mmselfsup_graft.checkpoints import convert, read_checkpoint
from mmselfsup_graft.engine.runners.pretrained import PretrainedPart, load_pretrained
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.evaluation import encoders as embedding
from mmselfsup_graft.evaluation import load_backbone
from mmselfsup_graft.evaluation.encoders import embed_images, load_encoder
from mmselfsup_graft.zoo.index import get_model

HEAD = {
    'type': 'mmpretrain.LinearClsHead',
    'num_classes': 2,
    'in_channels': 64,
    'loss': {'type': 'mmpretrain.CrossEntropyLoss'},
}


def pretraining(path: str) -> Any:
    model = build(mae_config(plain_vit.config(), graft=[{'checkpoint': path}]))
    model.init_weights()
    return model.backbone


def fine_tuning(path: str) -> Any:
    model = build(
        {'type': 'GraftedClassifier', 'backbone': plain_vit.config(), 'head': HEAD, 'graft': [{'checkpoint': path}]}
    )
    model.init_weights()
    return model.backbone


def base_model(path: str) -> Any:
    model = build(tec_config(plain_vit.config(), base={'final_norm': True}, checkpoint=path))
    model.init_weights()
    return model.base_model


def scoring(path: str) -> Any:
    return load_backbone(plain_vit.config(), path)


def spectrum(path: str) -> Any:
    return of_the_spectrum(plain_vit.config(), path)


def zoo(path: str) -> Any:
    return get_model('mae_vit-micro-p4_1xb64-coslr-210e_digits-16px', path).backbone


def segmentor(path: str) -> Any:
    module = build({**plain_vit.config(), 'type': 'mmpretrain.VisionTransformer'})
    load_pretrained(PretrainedPart('backbone', module, path))
    return module


def conversion(path: str) -> Any:
    done = convert(read_checkpoint(path), path, 'mmseg-vit')
    assert done.architecture.num_heads in (0, 4), f'{done.architecture.num_heads} attention heads'
    return None


READERS: list[Callable[[str], Any]] = [
    pretraining,
    fine_tuning,
    base_model,
    scoring,
    spectrum,
    zoo,
    segmentor,
    conversion,
]


@pytest.mark.parametrize('reader', READERS)
@torch.no_grad()
def test_a_plain_encoder_arrives_whole(reader: Any, tmp_path: Path) -> None:
    state, x = plain_vit.make(), plain_vit.images()
    torch.save(
        {'model': {**state, 'head.weight': torch.zeros(2)}, 'meta': {'encoder': {'num_heads': 4}}}, tmp_path / 'a.pth'
    )
    vit = reader(str(tmp_path / 'a.pth'))
    if vit is not None:
        vit.eval()
        torch.testing.assert_close(vit(x)[-1], plain_vit.feature(state, x), rtol=0, atol=2e-5)


UNPLACED: dict[str, tuple[dict[str, Any], str, str]] = {
    'layer scale': ({'scale': True}, '', 'layer_scale_init_value'),
    'registers': ({'registers': 4}, '', 'num_registers=4'),
    'norms of queries': ({'qk_norm': True}, '', 'qk_norm=True'),
    'gated': ({'gated': True}, '', 'swiglu_fused'),
    'another norm': ({}, 'blocks.1.attn.norm.weight', r'attn\.norm'),
    'rotary positions': ({}, 'rope.periods', r'rope\.periods'),
    'distilled': ({}, 'dist_token', 'dist_token'),
    'gate of EVA': ({}, 'blocks.0.mlp.fc1_g.weight', 'fc1_g'),
}


@pytest.mark.parametrize('reader', READERS)
@pytest.mark.parametrize('kind', UNPLACED)
def test_an_encoder_with_more_is_refused_by_name(reader: Any, kind: str, tmp_path: Path) -> None:
    made, more, words = UNPLACED[kind]
    state = plain_vit.make(**made)
    torch.save({'model': {**state, **({more: torch.zeros(64)} if more else {})}}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=words):
        reader(str(tmp_path / 'a.pth'))


@pytest.mark.parametrize('reader', [each for each in READERS if each is not conversion])
def test_other_heads_are_refused(reader: Any, tmp_path: Path) -> None:
    state = plain_vit.make()
    torch.save({'state_dict': state, 'meta': {'encoder': {'num_heads': 8}}}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='8 attention heads'):
        reader(str(tmp_path / 'a.pth'))


# ---------------------------------------------------------------- normalization
@pytest.mark.parametrize('where', ['encoder', 'cfg'])
@torch.no_grad()
def test_the_normalization_of_the_checkpoint_is_used(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(embedding, 'print_log', lambda text, **_: said.append(text))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    (tmp_path / 'images').mkdir()
    Image.fromarray(pixels).save(tmp_path / 'images' / 'a.png')
    pipeline = [{'type': 'LoadImage', 'channels': 1}, {'type': 'mmpretrain.PackInputs'}]
    data = {'type': 'ImageFolder', 'data_root': str(tmp_path / 'images'), 'pipeline': pipeline}
    own = {'mean': [10.0], 'std': [50.0]}
    cfg = Config({'model': {'backbone': plain_vit.config()}, 'data_preprocessor': {**own, 'to_rgb': False}})
    state, image = plain_vit.make(), torch.from_numpy(pixels).float()[None, None]
    for mean, std in ((33.0, 80.0), (10.0, 50.0)):
        told: dict[str, Any] = {'encoder': {'mean': [mean], 'std': [std], 'num_heads': 4}}
        if where == 'cfg':
            told = {'cfg': f'data_preprocessor = dict(mean=[{mean}], std=[{std}], to_rgb=False)\n'}
        torch.save({'state_dict': state, 'meta': told}, tmp_path / f'{mean}.pth')
        encoder = load_encoder(cfg, tmp_path / f'{mean}.pth')
        found = embed_images(encoder, data).features['class_token']
        expected = plain_vit.feature(state, (image - mean) / std)
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)
        assert sum('warning: its images were normalized' in text for text in said) == (mean != 10)
        said.clear()
    torch.save(state, tmp_path / 'bare.pth')  # nothing told: the config's
    found = embed_images(load_encoder(cfg, tmp_path / 'bare.pth'), data).features['class_token']
    np.testing.assert_allclose(found, plain_vit.feature(state, (image - 10) / 50), rtol=0, atol=5e-5)


def test_a_branch_and_a_grid_for_scoring(tmp_path: Path) -> None:
    state, other = plain_vit.make(), plain_vit.make(seed=1)
    torch.save({'model': state, 'model_ema': other}, tmp_path / 'a.pth')
    cfg = Config({'model': {'backbone': plain_vit.config()}, 'evaluation': {'source': {'branch': 'model_ema'}}})
    cfg.data_preprocessor = {'mean': [0.0], 'std': [1.0]}
    assert torch.equal(load_encoder(cfg, tmp_path / 'a.pth').backbone.cpu().cls_token, other['cls_token'])
