"""The console of a run: a summary instead of pages about settings, which the log's file keeps."""

import re
from itertools import takewhile
from pathlib import Path

import pytest
from test_tools.tiny_runs import call_tool, fresh_name, tiny_config, write_config

PAGES = ('System environment', 'Config:', 'Hooks will be executed', 'parameter groups')


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp('summary')
    config = write_config(folder / 'lgp.py', tiny_config('lgp', images=24, batch=8, epochs=2))
    done = call_tool('train', config, '--work-dir', folder / 'run', *fresh_name())
    assert done.code == 0, done.err
    return folder, done.out


def rows(out: str) -> dict[str, str]:
    """The lines of the summary: name -> value."""
    lines = out[out.index('- training\n') :].splitlines()[1:]
    listed = [line.strip().split('  ', 1) for line in takewhile(lambda line: line.startswith('  '), lines)]
    return {name: value.strip() for name, value in listed}


def test_the_summary_says_what_is_trained(trained):
    folder, out = trained
    found = rows(out)
    assert found['images'] == '24 images, 10 classes (' + found['images'].partition('(')[2]
    assert found['steps'] == '6 in 2 epochs'
    assert found['batch'] == '8 images'
    assert found['learning rate'] == '0.0001 to 0.001 by layer at its peak, AdamW'
    assert found['writes to'] == str(folder / 'run')
    name, *counts = re.fullmatch(r'(.*), ([\d,]+) parameters, ([\d,]+) of them trained', found['model']).groups()
    assert name == 'MoCoV3 with SelfSupViT'
    whole, trained_part = (int(count.replace(',', '')) for count in counts)
    assert whole > trained_part > 0  # the momentum encoder follows
    before = out[: out.index('| loss')].splitlines()
    assert len(before) <= 25


def test_images_that_no_batch_takes_are_said(tmp_path):
    config = write_config(tmp_path / 'mim.py', tiny_config('mim', images=28, batch=8, epochs=1))
    options = ['--cfg-options', 'train_dataloader.drop_last=True', *fresh_name()[1:]]
    done = call_tool('train', config, '--work-dir', tmp_path / 'run', *options)
    assert done.code == 0, done.err
    assert rows(done.out)['steps'] == '3 in 1 epoch; 4 images are left out of every epoch (incomplete batch)'


def test_the_pages_are_in_the_file_alone(trained):
    folder, out = trained
    file = Path(rows(out)['full log'])
    assert folder in file.parents
    text = file.read_text()
    for page in PAGES:
        assert page in text
        assert page not in out


def test_a_schedule_of_another_length_is_said(tmp_path):
    config = write_config(tmp_path / 'cl.py', tiny_config('cl', images=8, batch=8, epochs=4))
    for name, options, said in (
        ('override', ['--cfg-options', 'train_cfg.max_epochs=1'], True),
        ('option', ['--epochs', '1'], False),
    ):
        done = call_tool('train', config, '--work-dir', tmp_path / name, *options, *_named(options))
        assert done.code == 0, done.err
        assert ('schedule is 4 iterations long, the training 1; --epochs N' in done.out) == said


def _named(options: list[str]) -> list[str]:
    """A name of its own for the run; of options that are given twice the last would count."""
    name = fresh_name()
    return name[1:] if '--cfg-options' in options else name
