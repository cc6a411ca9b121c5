"""Origins of the values of nested configs, and the command that prints them."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmselfsup_graft.cli.misc import print_config
from mmselfsup_graft.engine.config.origins import Origin, leaves, origins_of
from mmselfsup_graft.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / 'configs'

ROOT = """steps = [dict(type='A'), dict(type='B')]
model = dict(
    type='M',
    neck=dict(type='N', width=8),
    head=dict(type='H', depth=2),
)
seed = 0
"""
DATA = """size = 16
loader = dict(batch_size=4, dataset={'type': 'D', 'size': size, 'steps': []})
"""
MIDDLE = """_base_ = ['./root.py', './data.py']
neck = dict(width=16,
            bias=True)
model = dict(neck=neck, head=dict(_delete_=True, type='Other'))
loader = dict(dataset=dict(size=32))
"""
LEAF = """_base_ = './middle.py'
import math
model = dict(
    neck=dict(width=16),
    extra=dict(**{'a': 1},
               b=math.pi),
)
loader = dict(dataset=dict(pipeline=_base_.steps))
"""


@pytest.fixture
def config(tmp_path, monkeypatch):
    for name, text in (('root', ROOT), ('data', DATA), ('middle', MIDDLE), ('leaf', LEAF)):
        (tmp_path / f'{name}.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    return 'leaf.py'


def test_nested_files(config):
    found = {'.'.join(key): str(origin).split('/')[-1] for key, origin in origins_of(config).items()}
    assert found == {
        'steps': 'root.py:1',
        'seed': 'root.py:7',
        'size': 'data.py:1',
        'neck.width': 'middle.py:2',
        'neck.bias': 'middle.py:3',
        'model.type': 'root.py:3',
        'model.neck.type': 'root.py:4',
        'model.neck.width': 'leaf.py:4',  # the same value again
        'model.neck.bias': 'middle.py:3',
        'model.head.type': 'middle.py:4',
        'model.extra.a': 'leaf.py:5',
        'model.extra.b': 'leaf.py:6',
        'loader.batch_size': 'data.py:2',
        'loader.dataset.type': 'data.py:2',
        'loader.dataset.size': 'middle.py:5',
        'loader.dataset.steps': 'data.py:2',
        'loader.dataset.pipeline': 'leaf.py:8',
    }
    assert {key for key, _ in leaves(Config.fromfile(config).to_dict())} == set(origins_of(config))


def test_overrides(config):
    found = origins_of(config, {'model.neck.width': 3, 'steps.0.type': 'C', 'loader.new': 1, 'model.head': None})
    told = {'.'.join(key) for key, origin in found.items() if origin == Origin('command line')}
    assert told == {'model.neck.width', 'steps', 'loader.new', 'model.head.type'}


@pytest.mark.parametrize(
    'path', sorted(CONFIGS.glob('*/*digits*.py')) + sorted(CONFIGS.glob('mae/*.py')), ids=lambda p: p.stem
)
def test_every_value_of_the_configs_has_an_origin(path):
    values = {key for key, _ in leaves(Config.fromfile(str(path)).to_dict())}
    origins = origins_of(path)
    assert values == set(origins)
    for key, origin in origins.items():
        assert key[0] in Path(origin.file).read_text()


def test_the_command(capsys):
    path = str(CONFIGS / 'mae' / 'mae_vit-micro-p4_1xb64-coslr-70e_digits-16px.py')
    print_config.main([path, '--cfg-options', 'train_dataloader.batch_size=32'])
    lines = capsys.readouterr().out.splitlines()
    (line,) = [each for each in lines if each.startswith('train_cfg.max_epochs')]
    assert line.startswith('train_cfg.max_epochs = 70')
    assert line.endswith('mae_vit-micro-p4_1xb64-coslr-70e_digits-16px.py:5')
    (line,) = [each for each in lines if each.startswith('train_dataloader.batch_size')]
    assert line.startswith('train_dataloader.batch_size = 32')
    assert line.endswith('# command line')
    print_config.main([path, '--key', 'train_cfg', '--plain'])
    assert 'max_epochs=70' in capsys.readouterr().out
    with pytest.raises(ConfigError, match="did you mean 'train_cfg'"):
        print_config.main([path, '--key', 'train_cgf'])
