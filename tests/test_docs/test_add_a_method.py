"""The method of docs/add_a_method.md: the code blocks of the page, put in place, trained, resumed, grafted."""

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from config_cache import load_config
from test_tools.tiny_runs import assert_same_run, call_tool, fresh_name

from mmselfsup_graft.checkpoints import read_state
from mmselfsup_graft.registry import MODELS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'add_a_method.md').read_text(encoding='utf-8')
#: file that the page names -> content
FILES = dict(re.findall(r'`([\w.-]+/[\w/.-]+\.py)`[^\n`]*:\n\n```python\n(.*?)```', PAGE, re.DOTALL))
CONFIGS = [name for name in FILES if name.startswith('configs/') and '/_base_/' not in name]
SHORT = ('train_dataloader.dataset.indices=32', 'train_dataloader.batch_size=16', 'default_hooks.checkpoint.interval=1')


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the configs of the checkout and of the page; the modules of the page are imported meanwhile."""
    folder = tmp_path_factory.mktemp('method')
    shutil.copytree(ROOT / 'configs' / '_base_', folder / 'configs' / '_base_')
    registered, modules = set(MODELS.module_dict), []
    for name, content in FILES.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        assert not target.exists(), f'{name} exists already'
        target.write_text(content)
        if not name.startswith('configs/') and '...' not in content:
            modules.append('.'.join(target.relative_to(folder).with_suffix('').parts))
            spec = importlib.util.spec_from_file_location(modules[-1], target)
            sys.modules[modules[-1]] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[modules[-1]])
    yield folder
    for name in modules:
        del sys.modules[name]
    for name in set(MODELS.module_dict) - registered:
        del MODELS.module_dict[name]


def train(config: Path, work_dir: Path, *options: str, rate: str = '1e-3') -> None:
    settings = [*fresh_name(), *SHORT, f'optim_wrapper.optimizer.lr={rate}']
    done = call_tool('train', config, '--work-dir', work_dir, '--epochs', 2, *options, *settings)
    assert done.code == 0, done.err[-2000:]


def test_the_page_names_its_files():
    assert len(CONFIGS) == 2
    assert any('/algorithms/' in name for name in FILES)


def test_trained_and_resumed_to_the_same_bits(checkout, tmp_path):
    config = checkout / CONFIGS[0]
    train(config, tmp_path / 'whole')
    shutil.copytree(tmp_path / 'whole', tmp_path / 'cut')
    (tmp_path / 'cut' / 'epoch_2.pth').unlink()
    train(config, tmp_path / 'cut', '--resume')
    assert_same_run(tmp_path / 'cut' / 'epoch_2.pth', tmp_path / 'whole' / 'epoch_2.pth')


def test_grafted(checkout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = checkout / CONFIGS[1]
    source = re.search(r"'(work_dirs/([\w-]+)/[\w.]+)'", FILES[CONFIGS[1]])
    torch.manual_seed(0)
    mae = MODELS.build(load_config(next((ROOT / 'configs').glob(f'*/{source[2]}.py'))).model)
    Path(source[1]).parent.mkdir(parents=True)
    torch.save({'state_dict': mae.state_dict(), 'meta': {}}, source[1])
    train(config, tmp_path / 'grafted', rate='0')
    trained, given = read_state(tmp_path / 'grafted' / 'epoch_2.pth'), mae.backbone.state_dict()
    cut = int(re.search(r'layers=\(0, (\d+)\)', FILES[CONFIGS[1]])[1])
    for block in range(mae.depth.num_blocks):
        name = f'layers.{block}.attn.qkv.weight'
        assert torch.equal(trained[f'backbone.{name}'], given[name]) == (block < cut)
