"""tools/analysis_tools/feature_spectrum.py: from checkpoints to tables and pictures."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_tools.test_finetune import finetune_config
from test_tools.tiny_runs import call_tool, digits, tiny_config, write_config
from tiny_configs import fresh_source

from mmselfsup_graft.analysis import measure_spectrum
from mmselfsup_graft.analysis.spectrum import report as feature_spectrum
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.evaluation import load_backbone
from mmselfsup_graft.registry import DATASETS

TOOL = 'analysis_tools/feature_spectrum'
FEW = ('--batches', 2, '--batch-size', 5, '--device', 'cpu')


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A config of MoCo v3 and a checkpoint named as MAE's files are."""
    folder = tmp_path_factory.mktemp('spectrum')
    content = tiny_config('cl')
    fresh_source(dict(content['model']['backbone']), folder / 'mae.pth')
    return write_config(folder / 'tiny.py', content), folder / 'mae.pth'


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / 'feature_spectrum.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def test_a_checkpoint_and_fresh_weights(files: Any, tmp_path: Path) -> None:
    config, checkpoint = files
    done = call_tool(TOOL, config, f'mae={checkpoint}', 'fresh=random', *FEW, '--out-dir', tmp_path / 'a')
    assert done.code == 0, done.err
    found = rows(tmp_path / 'a')
    layers = ['stem', *(f'layers.{i}.{half}' for i in range(3) for half in ('attn', 'ffn'))]
    assert [row['layer'] for row in found] == [layer for _ in range(2) for layer in layers for _ in range(2)]
    assert [row['frequency_pi'] for row in found[:2]] == ['0.0', '0.5']
    assert {row['relative_log_amplitude'] for row in found[::2]} == {'0.0'}
    assert float(found[13]['depth']) == 1
    assert found[1]['relative_log_amplitude'] != found[15]['relative_log_amplitude']
    for name in ('feature_spectrum.png', 'feature_depth.png'):
        assert (tmp_path / 'a' / name).stat().st_size > 5000
    assert (tmp_path / 'a' / 'feature_spectrum.txt').read_text().strip() in done.out
    # the same images in other batches
    again = call_tool(TOOL, config, checkpoint, *FEW, '--batches', 5, '--batch-size', 2, '--out-dir', tmp_path / 'b')
    assert again.code == 0, again.err
    for one, other in zip(found, rows(tmp_path / 'b')):
        assert float(other['relative_log_amplitude']) == pytest.approx(float(one['relative_log_amplitude']), abs=1e-4)
        assert float(other['variance']) == pytest.approx(float(one['variance']), rel=1e-4)


def test_what_is_measured_stays_when_a_later_one_breaks_off(
    files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, checkpoint = files
    whole = feature_spectrum.spectrum_of_checkpoint

    def only_the_first(entry: Any, *args: Any) -> Any:
        if entry.name == 'second':
            raise KeyboardInterrupt
        return whole(entry, *args)

    monkeypatch.setattr(feature_spectrum, 'spectrum_of_checkpoint', only_the_first)
    done = call_tool(TOOL, config, f'first={checkpoint}', 'second=random', *FEW, '--out-dir', tmp_path / 'a')
    assert done.code == 130
    assert {row['model'] for row in rows(tmp_path / 'a')} == {'first'}
    assert (tmp_path / 'a' / 'feature_depth.png').is_file()


def test_a_later_file_that_does_not_fit_is_refused_before_anything_is_measured(files: Any, tmp_path: Path) -> None:
    config, checkpoint = files
    torch.save({'model': {'unknown': torch.zeros(1)}}, tmp_path / 'wrong.pth')
    pair = (f'first={checkpoint}', f'second={tmp_path / "wrong.pth"}')
    done = call_tool(TOOL, config, *pair, *FEW, '--out-dir', tmp_path / 'a')
    assert done.code == 1
    assert 'wrong.pth' in done.err
    assert not (tmp_path / 'a').exists()


def test_the_whole_test_set_against_the_analysis(files: Any, tmp_path: Path) -> None:
    config, checkpoint = files
    done = call_tool(TOOL, config, checkpoint, '--batch-size', 64, '--out-dir', tmp_path)
    assert done.code == 0, done.err
    cfg = load_config(config)
    encoder = load_backbone(cfg.model.backbone, checkpoint)
    dataset = DATASETS.build(cfg.evaluation.test)
    pixels = torch.stack([dataset[index]['inputs'] for index in range(len(dataset))])
    expected = measure_spectrum(encoder, [(pixels.float() - 78) / 81])
    values = [float(row['relative_log_amplitude']) for row in rows(tmp_path)]
    np.testing.assert_allclose(values, np.concatenate([layer.amplitude for layer in expected]), atol=1e-4)


def test_a_resnet_and_a_fine_tuning_config_join(files: Any, tmp_path: Path) -> None:
    config, checkpoint = files
    content = finetune_config()
    content['model']['backbone'] = dict(
        type='MaskedResNetCIFAR', depth=18, in_channels=1, stem_channels=4, base_channels=4
    )
    other = write_config(tmp_path / 'resnet.py', content)
    done = call_tool(TOOL, config, f'mae={checkpoint}', f'cnn={other}:random', *FEW, '--out-dir', tmp_path / 'out')
    assert done.code == 0, done.err
    kinds = {(row['layer'], row['kind']) for row in rows(tmp_path / 'out') if row['model'] == 'cnn'}
    assert {('stem', 'stem'), ('layer1.0', 'block'), ('layer2.0', 'pooling')} <= kinds
    assert 'layer4.1         block' in done.out or 'layer4.1' in done.out
    assert '2x2                  -' in done.out  # a map of 2x2 pixels has no high frequency


def test_bad_input(files: Any, tmp_path: Path) -> None:
    config, checkpoint = files
    out = ('--out-dir', tmp_path / 'out')

    def error(*arguments: Any) -> str:
        return call_tool(TOOL, *arguments, *out).error()

    assert '--batches must be at least 1' in error(config, checkpoint, '--batches', 0)
    assert '--batch-size must be at least 1' in error(config, checkpoint, '--batch-size', 0)
    assert f'checkpoint {tmp_path}/no.pth does not exist' in error(config, f'a={tmp_path}/no.pth')
    assert "two checkpoints are called 'random'" in error(config, 'random', 'random')
    assert 'write NAME=CHECKPOINT' in error(config, 'a=')
    torch.save({'state_dict': {'backbone.x': torch.zeros(1)}}, tmp_path / 'other.pth')
    assert 'other.pth' in error(config, f'a={tmp_path}/other.pth')
    content = tiny_config('cl')
    del content['evaluation']
    bare = write_config(tmp_path / 'bare.py', content)
    assert 'neither an `evaluation` section' in error(bare, checkpoint)
    wide = [dict(type='LoadImage', channels=1), dict(type='mmpretrain.torchvision/CenterCrop', size=(8, 16))]
    content['evaluation'] = {s: digits(s, [*wide, dict(type='mmpretrain.PackInputs')]) for s in ('train', 'test')}
    content['model']['backbone'] = dict(
        type='MaskedResNetCIFAR', depth=18, in_channels=1, base_channels=4, stem_channels=4
    )
    oblong = write_config(tmp_path / 'oblong.py', content)
    assert 'use square images' in error(oblong, 'random')
    assert not (tmp_path / 'out').exists()
