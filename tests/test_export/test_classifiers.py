"""Fine-tuned classifiers in timm and transformers: the logits of our model, by the lines that are printed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build, enter_scope

from mmselfsup_graft.checkpoints import read_checkpoint, traits_of
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.export.convert_file import ConvertOptions, convert_file

CLASSES = ('ant', 'bee', "cat's")
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
VIT = dict(type='SelfSupViT', arch=ARCH, img_size=16, patch_size=4)
LINEAR = dict(type='mmpretrain.LinearClsHead', num_classes=3, loss=dict(type='mmpretrain.CrossEntropyLoss'))
GAP = dict(type='mmpretrain.GlobalAveragePooling')
CASES: dict[str, dict[str, Any]] = {
    'class token': dict(backbone=VIT),
    'mean of patches': dict(backbone={**VIT, 'out_type': 'featmap'}, neck=GAP),
    'norm of the mean': dict(backbone={**VIT, 'out_type': 'avg_featmap', 'final_norm': False}),
    'layer scale': dict(backbone={**VIT, 'layer_scale_init_value': 0.5}),
    'layer scale, mean': dict(backbone={**VIT, 'layer_scale_init_value': 0.5, 'out_type': 'featmap'}, neck=GAP),
    'registers': dict(
        backbone={**VIT, 'layer_scale_init_value': 0.5, 'num_registers': 2, 'out_type': 'featmap'}, neck=GAP
    ),
    'two layers': dict(backbone=VIT, head=dict(type='FirstFCHead', num_classes=3, in_channels=32, hidden_channels=12)),
    'resnet': dict(backbone=dict(type='mmpretrain.ResNet', depth=18), neck=GAP),
    'convnext': dict(
        backbone=dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 24, 32]))
    ),
}
NOT_IN_HF = ('mean of patches', 'norm of the mean', 'resnet', 'convnext')


def classifier(case: str) -> Any:
    """A classifier with no weight at a special value."""
    enter_scope()
    torch.manual_seed(0)
    model = build(dict(type='GraftedClassifier', **{'head': LINEAR, **CASES[case]})).eval()
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.1)
    for name, value in model.named_buffers():
        if name.endswith('running_var'):
            value.uniform_(0.5, 2.0)
    return model


def write(model: Any, path: Path, encoder: dict[str, Any] | None = None, classes: Any = CLASSES) -> Path:
    meta = {'encoder': traits_of(model).as_meta() if encoder is None else encoder}
    meta |= {'dataset_meta': {'classes': classes}} if classes else {}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
    return path


def built(text: str) -> Any:
    """The model of the printed lines, run as they stand."""
    import timm
    import transformers

    lines = text[text.index('use: ') + 5 :].split('\n')
    code = [line.strip() for line in lines if line.strip().startswith(('model', 'classes'))]
    scope: dict[str, Any] = {'timm': timm, 'transformers': transformers, 'torch': torch}
    exec('\n'.join(code), scope)
    return scope['model'].eval()


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('target', ['timm', 'hf'])
@torch.no_grad()
def test_logits_are_those_of_the_classifier(case: str, target: str, tmp_path: Path) -> None:
    side = 64 if case in ('resnet', 'convnext') else 16
    model, x = classifier(case), torch.randn(3, 3, side, side)
    source = write(model, tmp_path / 'in.pth')
    options = ConvertOptions(target, classifier=True)
    if target == 'hf' and case in NOT_IN_HF:
        with pytest.raises(CheckpointError, match=r'in\.pth'):
            convert_file(source, tmp_path / 'out.pth', options)
        return
    text = convert_file(source, tmp_path / 'out.pth', options).text
    assert 'every tensor fits' in text
    found = built(text)
    actual = found(x) if target == 'timm' else found(x).logits
    torch.testing.assert_close(actual, model.head(model.extract_feat(x)), rtol=1e-4, atol=2e-5)
    if target == 'hf':
        assert found.config.id2label == dict(enumerate(CLASSES))
        assert found.config.label2id == {name: number for number, name in enumerate(CLASSES)}
    assert tuple(read_checkpoint(tmp_path / 'out.pth')['meta']['architecture']['classes']) == CLASSES


def test_many_names_come_from_the_file(tmp_path: Path) -> None:
    enter_scope()
    model = build(dict(type='GraftedClassifier', backbone=VIT, head={**LINEAR, 'num_classes': 30}))
    names = [f'class {number}' for number in range(30)]
    text = convert_file(
        write(model, tmp_path / 'in.pth', classes=names), tmp_path / 'out.pth', ConvertOptions('hf', classifier=True)
    ).text
    assert 'class 7' not in text
    assert built(text).config.id2label == dict(enumerate(names))


@torch.no_grad()
def test_a_file_that_does_not_state_its_feature(tmp_path: Path) -> None:
    model, x = classifier('mean of patches'), torch.randn(2, 3, 16, 16)
    source = write(model, tmp_path / 'in.pth', {'num_heads': 4}, None)
    with pytest.raises(CheckpointError, match='does not state which feature'):
        convert_file(source, tmp_path / 'out.pth', ConvertOptions('timm', classifier=True))
    done = convert_file(source, tmp_path / 'out.pth', ConvertOptions('timm', classifier=True, feature='patch_mean'))
    expected = model.head(model.extract_feat(x))
    torch.testing.assert_close(built(done.text)(x), expected, rtol=1e-4, atol=2e-5)
    assert done.conversion.architecture.classes == ('0', '1', '2')


def test_the_encoder_alone_is_still_the_default(tmp_path: Path) -> None:
    source = write(classifier('class token'), tmp_path / 'in.pth')
    done = convert_file(source, tmp_path / 'out.pth', ConvertOptions('timm'))
    assert '--classifier keeps it' in done.text
    assert not any(name.startswith('head') for name in done.conversion.state)


@pytest.mark.parametrize(
    ('change', 'target', 'reason'),
    [
        ({'head.fc.weight': None}, 'timm', 'holds no classifier'),
        ({'head.fc.bias': torch.zeros(4)}, 'timm', 'expected'),
        ({'head.bn0.weight': torch.zeros(3)}, 'timm', 'a norm and a ReLU'),
        ({'head.fc0.weight': torch.zeros(5, 32)}, 'timm', 'gives 5 channels'),
        ({}, 'mmdet', 'takes no classifier'),
    ],
)
def test_heads_that_cannot_be_converted(change: dict[str, Any], target: str, reason: str, tmp_path: Path) -> None:
    source = write(classifier('class token'), tmp_path / 'in.pth')
    content = torch.load(source, weights_only=True)
    state = {**content['state_dict'], **change}
    torch.save({**content, 'state_dict': {k: v for k, v in state.items() if v is not None}}, source)
    with pytest.raises(CheckpointError, match=reason):
        convert_file(source, tmp_path / 'out.pth', ConvertOptions(target, classifier=True))
    assert not (tmp_path / 'out.pth').exists()


def test_names_must_be_as_many_as_classes(tmp_path: Path) -> None:
    source = write(classifier('class token'), tmp_path / 'in.pth', classes=('a', 'b'))
    with pytest.raises(CheckpointError, match='keeps 2 names of classes, its head has 3'):
        convert_file(source, tmp_path / 'out.pth', ConvertOptions('timm', classifier=True))
