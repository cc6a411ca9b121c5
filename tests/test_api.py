"""The public functions do what the commands do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_tools.tiny_runs import tiny_config, write_config

import mmselfsup_graft as graft
from mmselfsup_graft.checkpoints import read_state
from mmselfsup_graft.errors import ConfigError, GraftError


def test_importing_the_package_is_light():
    code = (
        'import sys, mmselfsup_graft; assert not {"torch", "mmengine.runner"} & set(sys.modules); '
        'assert "train" in dir(mmselfsup_graft)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_unknown_names():
    with pytest.raises(AttributeError, match='no attribute'):
        graft.trian  # noqa: B018


def test_train_evaluate_and_convert(tmp_path):
    config = write_config(tmp_path / 'tiny.py', tiny_config('mim', epochs=2))
    runner = graft.train(config, work_dir=tmp_path / 'run', epochs=1)
    assert runner.epoch == 1
    checkpoint = tmp_path / 'run' / 'epoch_1.pth'
    rows = graft.evaluate(config, checkpoint, protocols=['knn'], work_dir=tmp_path / 'scores')
    assert [row['protocol'] for row in rows] == ['knn']
    assert rows == [json.loads(line) for line in (tmp_path / 'scores' / 'results.jsonl').read_text().splitlines()]
    done = graft.convert(checkpoint, tmp_path / 'timm.pth', 'timm')
    weight = read_state(done.path)['blocks.0.attn.qkv.weight']
    assert torch.equal(weight, runner.model.backbone.state_dict()['layers.0.attn.qkv.weight'])


def test_a_finished_run_is_not_trained_again(tmp_path):
    config = write_config(tmp_path / 'tiny.py', tiny_config('mim', epochs=1))
    graft.train(config, work_dir=tmp_path / 'run')
    with pytest.raises(GraftError, match='finished: 1 of 1 epochs'):
        graft.train(config, work_dir=tmp_path / 'run', resume=True)


def test_the_report_of_another_recipe_is_not_replaced(tmp_path):
    config = write_config(tmp_path / 'tiny.py', tiny_config('mim', epochs=1))
    recipe = tmp_path / 'recipe.py'
    recipe.write_text(f"stages = [dict(name='mim', config={config.name!r})]\n")
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / 'table.json').write_text('{}')
    with pytest.raises(ConfigError, match='of another recipe'):
        graft.run_recipe(recipe, work_dir=work_dir)
    assert [path.name for path in work_dir.iterdir()] == ['table.json']


def test_a_recipe_and_a_training_do_not_share_a_folder(tmp_path):
    config = write_config(tmp_path / 'tiny.py', tiny_config('mim', epochs=1))
    recipe = tmp_path / 'recipe.py'
    recipe.write_text(f"stages = [dict(name='mim', config={config.name!r})]\n")
    for folder, name, run in (
        ('trained', 'history.jsonl', lambda folder: graft.run_recipe(recipe, work_dir=folder)),
        ('staged', 'mim/stage.json', lambda folder: graft.train(config, work_dir=folder)),
    ):
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True)
        path.write_text('{}')
        with pytest.raises(ConfigError, match=r'holds (a training|the stages of a recipe); choose another --work-dir'):
            run(tmp_path / folder)
        assert [each.name for each in (tmp_path / folder).iterdir()] == [Path(name).parts[0]]


def test_scripts_for_earlier_versions_register_the_modules():
    from mmselfsup_graft.apis.setup import register_all_modules
    from mmselfsup_graft.libraries import scopes

    assert register_all_modules is scopes.register_all_modules
