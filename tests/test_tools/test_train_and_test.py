"""``tools/train.py`` and ``tools/test.py`` on tiny runs."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config
from test_tools.tiny_runs import Outcome, call_tool, fresh_name, load, tiny_config, write_config

from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.evaluation.scoring import score_checkpoint


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder / 'tiny.py', tiny_config('cl', images=32, epochs=2))
    done = call_tool('train', config, '--work-dir', folder / 'run', *fresh_name())
    assert done.code == 0, done.err
    return folder


def printed(*options: str, config: Path) -> Config:
    done = call_tool('train', config, '--print-config', *options)
    assert done.code == 0, done.err
    return Config.fromstring(done.out, '.py')


def test_print_config_shows_what_would_run_and_runs_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = printed(
        '--cfg-options', 'optim_wrapper.optimizer.lr=0.5', 'model.base_momentum=0.9', config=trained / 'tiny.py'
    )
    assert cfg.optim_wrapper.optimizer.lr == 0.5
    assert cfg.model.base_momentum == 0.9
    assert cfg.work_dir == 'work_dirs/tiny'
    assert cfg.default_hooks.checkpoint.type == 'SafeCheckpointHook'  # inherited
    assert list(tmp_path.iterdir()) == []


def test_flags_reach_the_config(trained, tmp_path):
    cfg = printed('--amp', '--auto-scale-lr', '--no-validate', '--work-dir', str(tmp_path), config=trained / 'tiny.py')
    assert cfg.optim_wrapper.type == 'AutocastOptimWrapper'
    assert cfg.auto_scale_lr.enable is True
    assert cfg.val_dataloader is None
    assert cfg.work_dir == str(tmp_path)
    assert not cfg.resume
    file = trained / 'run' / 'epoch_1.pth'
    cfg = printed('--resume', str(file), config=trained / 'tiny.py')
    assert (cfg.resume, cfg.resume_from) == (True, str(file))
    cfg = printed('--resume', config=trained / 'tiny.py')
    assert (cfg.resume, cfg.resume_from) == (True, None)


def test_amp_refuses_an_optimizer_wrapper_of_its_own(tmp_path):
    content = tiny_config('cl')
    content['optim_wrapper']['type'] = 'ApexOptimWrapper'
    message = call_tool('train', write_config(tmp_path / 'apex.py', content), '--amp').error()
    assert message.startswith('--amp cannot be used with optim_wrapper.type=ApexOptimWrapper')


def test_auto_scale_lr_multiplies_the_rates(tmp_path):
    """Base batch 4, real batch 8 on one process: every group's peak doubles."""
    peaks = {}
    for name, flags in (('plain', []), ('scaled', ['--auto-scale-lr'])):
        content = tiny_config('lgp', images=8, epochs=2, auto_scale_lr=dict(base_batch_size=4))
        config = write_config(tmp_path / f'{name}.py', content)
        done = call_tool('train', config, '--work-dir', tmp_path / name, *flags, *fresh_name())
        assert done.code == 0, done.err
        groups = load(tmp_path / name / 'epoch_2.pth')['optimizer']['param_groups']
        peaks[name] = [group['initial_lr'] for group in groups]
    assert peaks['scaled'] == pytest.approx([2 * value for value in peaks['plain']], rel=1e-12)
    assert set(peaks['plain']) == {1e-4, 1e-3}


def test_training_leaves_the_resolved_config_beside_its_checkpoints(trained):
    written = Config.fromfile(trained / 'run' / 'tiny.py')
    assert written.model.to_dict() == load_config(trained / 'tiny.py').model.to_dict()
    names = {path.name for path in (trained / 'run').iterdir()}
    assert {'epoch_1.pth', 'epoch_2.pth', 'history.jsonl', 'progress.json', 'param_groups.json'} <= names
    progress = json.loads((trained / 'run' / 'progress.json').read_text())
    assert (progress['iter'], progress['max_iters'], progress['seconds_left']) == (8, 8, 0)


def score(trained: Path, *options: str | Path) -> Outcome:
    done = call_tool('test', trained / 'tiny.py', trained / 'run' / 'epoch_2.pth', *options)
    assert done.code == 0, done.err
    return done


def test_scores_as_table_and_as_json(trained, tmp_path):
    done = score(trained, '--work-dir', tmp_path)
    result = json.loads((tmp_path / 'test.json').read_text())
    assert result['checkpoint'] == str(trained / 'run' / 'epoch_2.pth')
    expected = score_checkpoint(load_config(trained / 'tiny.py'), str(trained / 'run' / 'epoch_2.pth')).results
    found = {row['protocol']: row['result'] for row in result['results']}
    assert found == json.loads(json.dumps(expected))
    assert 5 < found['knn']['accuracy'] <= 100
    assert '5-NN' in done.out
    assert f'{found["knn"]["accuracy"]:.1f}' in done.out
    assert f'{found["few_shot"]["2"]["mean"]:.1f} ±' in done.out


def test_the_result_goes_where_it_is_asked_to(trained, tmp_path):
    score(trained, '--work-dir', tmp_path / 'work', '--out', tmp_path / 'deep' / 'result.json')
    assert (tmp_path / 'deep' / 'result.json').is_file()
    names = {path.name.split('_')[0] for path in (tmp_path / 'work').iterdir()}
    assert names == {'features', 'results.jsonl', 'config'}
