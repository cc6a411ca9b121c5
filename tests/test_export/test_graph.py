"""Encoders as ONNX and as programs of torch.export: the outputs of our own classes for any batch size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_export.test_classifiers import VIT as CLASSIFIED
from test_export.test_classifiers import classifier
from test_export.test_classifiers import write as write_classifier
from test_export.test_hub_folder import MEAN, STD, encoder_of, expected, size_of, write

from mmselfsup_graft.checkpoints import traits_of
from mmselfsup_graft.cli import graft
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.export import graph
from mmselfsup_graft.export.graph import OPSET, export_graph

CASES = {
    '.onnx': ['vit', 'vit, mean of patches', 'vit with layer scale and registers', 'beit', 'resnet', 'convnext'],
    '.pt2': ['vit', 'vit with layer scale and registers', 'beit', 'resnet', 'convnext'],
}


def ran(path: Path, images: torch.Tensor) -> torch.Tensor:
    if path.suffix == '.pt2':
        return torch.export.load(path).module()(images)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    (name,) = (each.name for each in session.get_inputs())
    assert name == 'images'
    return torch.from_numpy(session.run(None, {'images': images.numpy()})[0])


def source_of(case: str, folder: Path) -> tuple[Any, Path]:
    model = encoder_of(case)
    size = size_of(case)
    return model, write(model, folder / 'in.pth', **({} if 'vit' in case else {'img_size': [size, size]}))


@pytest.mark.parametrize(('case', 'suffix'), [(case, suffix) for suffix in CASES for case in CASES[suffix]])
@torch.no_grad()
def test_outputs_are_those_of_the_encoder(case: str, suffix: str, tmp_path: Path) -> None:
    model, source = source_of(case, tmp_path)
    path = tmp_path / f'out{suffix}'
    done = export_graph(source, path)
    assert done.difference < 1e-5
    size = size_of(case)
    for count in (1, 2, 5):
        raw = 255 * torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count))
        normalized = (raw - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        features = expected(model, normalized)
        torch.testing.assert_close(ran(path, raw), features, rtol=1e-4, atol=1e-5 * float(features.abs().max()))


def test_what_the_file_states(tmp_path: Path) -> None:
    import onnx

    _, source = source_of('vit', tmp_path)
    text = export_graph(source, tmp_path / 'out.onnx').text()
    made = onnx.load(tmp_path / 'out.onnx')
    onnx.checker.check_model(made)
    assert {each.version for each in made.opset_import if each.domain in ('', 'ai.onnx')} == {OPSET}
    assert f'opset {OPSET}' in text
    told = {each.key: json.loads(each.value) for each in made.metadata_props if each.key in ('mean', 'std', 'feature')}
    assert told == {'mean': MEAN, 'std': STD, 'feature': 'class_token'}
    batch, *shape = made.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [each.dim_value for each in shape] == [3, 16, 16]


@torch.no_grad()
def test_a_classifier(tmp_path: Path) -> None:
    model = classifier('class token')
    assert CLASSIFIED['img_size'] == 16
    source = write_classifier(model, tmp_path / 'in.pth', {**traits_of(model).as_meta(), 'mean': MEAN, 'std': STD})
    done = export_graph(source, tmp_path / 'out.onnx', classifier=True)
    assert done.about['classes'] == ['ant', 'bee', "cat's"]
    raw = 255 * torch.rand(2, 3, 16, 16)
    normalized = (raw - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    logits = model.head(model.extract_feat(normalized))
    torch.testing.assert_close(ran(tmp_path / 'out.onnx', raw), logits, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize('suffix', ['.onnx', '.pt2'])
def test_a_graph_that_differs_is_not_written(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For real images only, so that these are compared too."""
    _, source = source_of('vit', tmp_path)
    make, run = graph._KINDS[suffix]
    wrong = lambda content, x: run(content, x) + (0.01 if x.frac().abs().max() == 0 else 0.0)  # noqa: E731
    monkeypatch.setitem(graph._KINDS, suffix, (make, wrong))
    with pytest.raises(CheckpointError, match=rf'nothing written: outputs of out\{suffix} differ'):
        export_graph(source, tmp_path / f'out{suffix}')
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


def test_the_command_with_own_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, source = source_of('vit', tmp_path)
    (tmp_path / 'photos').mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(
        tmp_path / 'photos' / 'a.png'
    )
    out = tmp_path / 'out.pt2'
    arguments = ['export', str(source), str(out), '--images', str(tmp_path / 'photos'), '--feature', 'patch_mean']
    graft.main(arguments)
    assert 'patch mean' in capsys.readouterr().out
    before = out.read_bytes()
    with pytest.raises(CheckpointError, match='exists'):
        graft.main(arguments)
    assert out.read_bytes() == before
    graft.main([*arguments, '--overwrite'])


def test_an_encoder_that_cannot_be_traced(tmp_path: Path) -> None:
    """Swin counts its windows with the number of images of the example."""
    _, source = source_of('swin', tmp_path)
    with pytest.raises(CheckpointError, match=r'torch\.export cannot trace this encoder for any batch size'):
        export_graph(source, tmp_path / 'out.pt2')
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


def test_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r'must end in \.onnx or \.pt2'):
        export_graph(tmp_path / 'in.pth', tmp_path / 'out.bin')
    monkeypatch.setattr(graph, '_ONNX_PACKAGES', ('onnx', 'no_such_package'))
    with pytest.raises(ConfigError, match='needs no_such_package: pip install no_such_package'):
        export_graph(tmp_path / 'in.pth', tmp_path / 'out.onnx')
