"""tools/analysis_tools/interaction_strength.py: from fine-tuned checkpoints to a table and a picture."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import vit_config
from test_tools.test_finetune import finetune_config
from test_tools.tiny_runs import call_tool, load, tiny_config, write_config

from mmselfsup_graft.analysis import measure_interactions
from mmselfsup_graft.analysis.interaction.report import draw_training_images, load_classifier
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.registry import DATASETS, MODELS

TOOL = 'analysis_tools/interaction_strength'
FEW = ('--images', 3, '--pairs', 4, '--contexts', 3, '--orders', 0, 0.5, 1, '--device', 'cpu')


def save_classifier(config: Path, target: Path, seed: int) -> Path:
    """What ``tools/finetune.py`` would leave: a classifier of the config whose head says something."""
    cfg = load_config(config)
    torch.manual_seed(seed)
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, target)
    return target


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp('interaction')
    config = write_config(folder / 'tiny.py', finetune_config())
    return config, *(save_classifier(config, folder / f'{seed}.pth', seed) for seed in (1, 2))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / 'interaction_strength.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def test_two_checkpoints_in_one_picture(files: Any, tmp_path: Path) -> None:
    config, first, second = files
    done = call_tool(TOOL, config, f'one={first}', f'two={second}', *FEW, '--grid', 8, '--out-dir', tmp_path / 'a')
    assert done.code == 0, done.err
    found = rows(tmp_path / 'a')
    assert [row['model'] for row in found] == ['one'] * 3 + ['two'] * 3
    assert [(row['order'], row['context_patches']) for row in found[:3]] == [('0.0', '0'), ('0.5', '31'), ('1.0', '62')]
    strengths = np.array([float(row['strength']) for row in found]).reshape(2, 3)
    np.testing.assert_allclose(strengths.mean(1), 1)
    assert abs(strengths[0] - strengths[1]).max() > 1e-3
    assert (tmp_path / 'a' / 'interaction_strength.png').stat().st_size > 5000
    assert '8x8 patches, 4 pairs per image, 3 contexts, reward modified' in done.out
    assert f'{strengths[1, 2]:.3f} ± ' in done.out
    assert (tmp_path / 'a' / 'interaction_strength.txt').read_text().strip() in done.out
    # another batch size and each checkpoint for itself: the same numbers
    again = call_tool(TOOL, config, second, *FEW, '--grid', 8, '--batch-size', 5, '--out-dir', tmp_path / 'b')
    assert again.code == 0, again.err
    assert {row['model'] for row in rows(tmp_path / 'b')} == {f'{second.parent.name}/2'}  # as the file is called
    alone = [float(row['strength']) for row in rows(tmp_path / 'b')]
    np.testing.assert_allclose(alone, strengths[1], rtol=1e-3)


def test_the_images_are_training_images_seen_like_test_images(files: Any) -> None:
    config, first, _ = files
    cfg = load_config(config)
    cfg.train_dataloader.dataset.pipeline = [dict(type='mmpretrain.torchvision/RandomResizedCrop', size=4)]
    drawn = draw_training_images(cfg, 5, seed=3)
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'pipeline': cfg.test_dataloader.dataset.pipeline})
    assert len(set(drawn.indices)) == 5
    for index, image, label in zip(drawn.indices, drawn.pixels, drawn.labels):
        assert torch.equal(image, dataset[index]['inputs'])
        assert label == dataset.labels()[index]
    assert draw_training_images(cfg, 3, seed=3).indices == drawn.indices[:3]
    assert draw_training_images(cfg, 3, seed=4).indices != drawn.indices[:3]
    model = load_classifier(cfg, first)
    assert not model.training
    assert torch.equal(model.state_dict()['head.fc.weight'], load(first)['state_dict']['head.fc.weight'])


def test_another_architecture_and_fresh_weights_join(files: Any, tmp_path: Path) -> None:
    config, first, _ = files
    content = finetune_config()
    content['model']['backbone'] = vit_config(width=16, depth=1, in_channels=1)
    other = write_config(tmp_path / 'shallow.py', content)
    shallow = save_classifier(other, tmp_path / 'shallow.pth', 3)
    done = call_tool(
        TOOL, config, f'one={first}', f'shallow={other}:{shallow}', 'fresh=random', *FEW, '--out-dir', tmp_path / 'out'
    )
    assert done.code == 0, done.err
    assert {row['context_patches'] for row in rows(tmp_path / 'out')} == {'0', '127', '254'}  # 16x16 patches of 1 pixel
    assert [line for line in done.out.splitlines() if 'one' in line and 'shallow' in line and 'fresh' in line]


def test_a_head_from_the_projector_needs_no_other_file(files: Any, tmp_path: Path) -> None:
    content = finetune_config()
    content['model']['head'] = dict(type='FirstFCHead', num_classes=10, in_channels=16, hidden_channels=12)
    saved = save_classifier(write_config(tmp_path / 'built.py', content), tmp_path / 'first_fc.pth', 1)
    del content['model']['head']['hidden_channels']  # as in the configs: the width comes from the file
    config = write_config(tmp_path / 'first_fc.py', content)
    assert load_classifier(load_config(config), saved).head.fc0.weight.shape == (12, 16)
    done = call_tool(TOOL, config, f'a={saved}', *FEW, '--grid', 4, '--out-dir', tmp_path)
    assert done.code == 0, done.err


def test_measuring_reports_how_many_are_right(files: Any, tmp_path: Path) -> None:
    config, first, _ = files
    done = call_tool(TOOL, config, f'a={first}', *FEW, '--grid', 4, '--images', 60, '--out-dir', tmp_path)
    cfg = load_config(config)
    model, dataset = load_classifier(cfg, first), DATASETS.build(cfg.train_dataloader.dataset)
    pixels = torch.stack([dataset[index]['inputs'] for index in range(60)])
    with torch.no_grad():
        guesses = model(model.data_preprocessor({'inputs': pixels}, False)['inputs']).argmax(1).numpy()
    assert f'{100 * (guesses == dataset.labels()).mean():.1f} %' in done.out.splitlines()[-2]
    assert measure_interactions.__module__.startswith('mmselfsup_graft.analysis')


def test_bad_input(files: Any, tmp_path: Path) -> None:
    config, first, _ = files
    out = ('--out-dir', tmp_path / 'out')

    def error(*arguments: Any) -> str:
        return call_tool(TOOL, *arguments, *out).error()

    assert 'does not divide images of 16x16 pixels; possible here: 2, 4, 8, 16' in error(
        config, first, *FEW, '--grid', 7
    )
    assert '1000 images requested, the training data has 60' in error(config, first, '--images', 1000)
    assert 'batch size must be at least 1' in error(config, first, '--batch-size', 0)
    assert 'pairs must be at least 1' in error(config, first, '--pairs', 0)
    assert 'orders are shares' in error(config, first, '--orders', 2)
    assert f'checkpoint {tmp_path}/no.pth does not exist' in error(config, f'a={tmp_path}/no.pth')
    assert "two checkpoints are called 'a'" in error(config, f'a={first}', f'a={first}')
    assert 'write NAME=CHECKPOINT' in error(config, f'={first}')
    assert "device 'none' cannot be used" in error(config, first, '--device', 'none')
    assert 'config no.py does not exist' in error(config, f'a=no.py:{first}')
    single = write_config(tmp_path / 'single.py', tiny_config('cl'))
    assert 'measured on a classifier, model.type is MoCoV3; fine-tune' in error(single, first)
    torch.save({'state_dict': {'backbone.x': torch.zeros(1)}}, tmp_path / 'other.pth')
    assert 'other.pth does not fit this model' in error(config, f'a={tmp_path}/other.pth')
    assert not (tmp_path / 'out').exists()
