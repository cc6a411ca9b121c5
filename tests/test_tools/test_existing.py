"""What is there already is not lost: a second run, fine-tuning, score or analysis in the same place."""

import hashlib
import shutil
from pathlib import Path

import pytest
from test_tools.test_finetune import BACKBONE, WIDTH, finetune_config
from test_tools.tiny_runs import call_tool, tiny_config, write_config
from tiny_finetuning import write_contrastive


def content_of(folder: Path) -> dict[str, str]:
    kept = [path for path in folder.rglob('*') if path.suffix in ('.pth', '.jsonl', '.json', '.csv', '.png')]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('first')
    config = write_config(folder / 'tiny.py', tiny_config())
    assert call_tool('train', config, '--work-dir', folder / 'run').code == 0
    return folder


@pytest.fixture
def copied(run, tmp_path):
    shutil.copytree(run / 'run', tmp_path / 'run')
    return run / 'tiny.py', tmp_path / 'run'


def test_a_second_run_leaves_the_first_as_it_is(copied):
    config, work = copied
    before = content_of(work)
    done = call_tool('train', config, '--work-dir', work, '--epochs', '1')
    assert done.code == 1
    for word in ('--resume', '--work-dir', '--overwrite', 'epoch_'):
        assert word in done.error()
    assert content_of(work) == before


def test_overwrite_starts_again_and_leaves_nothing_of_the_first(copied):
    config, work = copied
    (work / 'notes.txt').write_text('mine')
    assert call_tool('train', config, '--work-dir', work, '--epochs', '1', '--overwrite').code == 0
    assert sorted(path.name for path in work.glob('*.pth')) == ['epoch_1.pth']
    assert (work / 'notes.txt').read_text() == 'mine'


def test_checkpoints_in_another_folder_are_seen(run, tmp_path):
    option = ['--cfg-options', f'default_hooks.checkpoint.out_dir={tmp_path / "scratch"}']
    arguments = [run / 'tiny.py', '--work-dir', tmp_path / 'run', '--epochs', '1']
    assert call_tool('train', *arguments, *option).code == 0
    for name in ('history.jsonl', 'progress.json', 'param_groups.json'):
        (tmp_path / 'run' / name).unlink()
    before = content_of(tmp_path / 'scratch')
    assert before
    assert call_tool('train', *arguments, *option).code == 1
    assert content_of(tmp_path / 'scratch') == before


def test_fine_tuning(tmp_path):
    source = tmp_path / 'encoder.pth'
    write_contrastive(BACKBONE, WIDTH, source)
    config = write_config(tmp_path / 'tiny.py', finetune_config())
    arguments = [config, source, '--work-dir', tmp_path / 'run', '--epochs', '1']
    assert call_tool('finetune', *arguments).code == 0
    before = content_of(tmp_path / 'run')
    assert call_tool('finetune', *arguments).code == 1
    assert content_of(tmp_path / 'run') == before
    assert call_tool('finetune', *arguments, '--overwrite').code == 0
    rows = (tmp_path / 'run' / 'results.jsonl').read_text().splitlines()
    assert len(rows) == 2  # rows of results are kept


def test_a_score_and_an_analysis(run, tmp_path):
    checkpoint = run / 'run' / 'epoch_2.pth'
    out = tmp_path / 'score.json'
    out.write_text('mine')
    done = call_tool('test', run / 'tiny.py', checkpoint, '--work-dir', tmp_path / 'w', '--out', out)
    assert (done.code, out.read_text()) == (1, 'mine')
    spectrum = [run / 'tiny.py', checkpoint, '--batches', '1', '--out-dir', tmp_path / 's']
    assert call_tool('analysis_tools/feature_spectrum', *spectrum).code == 0
    before = content_of(tmp_path / 's')
    assert call_tool('analysis_tools/feature_spectrum', *spectrum).code == 1
    assert content_of(tmp_path / 's') == before
    assert call_tool('analysis_tools/feature_spectrum', *spectrum, '--overwrite').code == 0
