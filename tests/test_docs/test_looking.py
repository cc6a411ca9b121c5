"""The commands of docs/look.md are run as they stand there, on a folder of small pictures and a small ViT."""

from pathlib import Path

import documented
import numpy as np
import pytest
import torch
from documented import ROOT, calls_of, command_of, shell_blocks
from PIL import Image
from test_tools.tiny_runs import fresh_name

from mmselfsup_graft.cli.graft import COMMANDS
from mmselfsup_graft.cli.graft import main as graft
from mmselfsup_graft.engine.train import load_config
from mmselfsup_graft.registry import MODELS

PAGE = ROOT / 'docs' / 'look.md'
CONFIG = """
_base_ = 'mmselfsup_graft::mae/mae_vit-mini-p8_1xb128-coslr-60e_folder-64px.py'
model = dict(
    backbone=dict(arch=dict(embed_dims=32, num_layers=12, num_heads=2, feedforward_channels=32)),
    neck=dict(embed_dim=32),
)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
"""


def write_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(names))
    for name in names:
        coarse = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((72, 64), Image.Resampling.BICUBIC).save(folder / name)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the page names."""
    folder = tmp_path / 'place'
    write_pictures(folder / 'path' / 'to' / 'images', [f'{letter}.jpg' for letter in 'abcdefgh'])
    write_pictures(folder / 'data' / 'train', ['1.png', '2.png'])
    write_pictures(folder / 'data' / 'val', ['3.png'])
    write_pictures(folder, ['photo.jpg'])
    monkeypatch.chdir(folder)
    Path('config.py').write_text(CONFIG)
    cfg = load_config('config.py')
    checkpoint = {'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {'cfg': cfg.pretty_text}}
    for name in ('epoch_300.pth', 'mae_pretrain_vit_base.pth'):
        torch.save(checkpoint, name)
    images = ['--data-root', 'path/to/images']
    graft(['train', 'config.py', *images, '--epochs', '1', '--work-dir', 'work_dirs/RUN', *fresh_name()])
    return folder


def commands(folder: Path) -> list[list[str]]:
    """Arguments of ``graft`` of all calls on the page."""
    names = {command.module: name for name, command in COMMANDS.items()}
    found = []
    for number, block in enumerate(shell_blocks(PAGE)):
        own = folder / str(number)
        own.mkdir()
        for call in calls_of(block, own):
            command = command_of(call)
            assert command is not None
            module, arguments = command
            found.append([names[module], *('config.py' if each == documented.CONFIG else each for each in arguments)])
    return found


@pytest.mark.slow
def test_page(place, tmp_path, capsys):
    (tmp_path / 'calls').mkdir()
    called = commands(tmp_path / 'calls')
    for arguments in called:
        if arguments[0] == 'embed' and Path('features.parquet').exists():
            arguments = [*arguments, '--out', 'others.npy']  # the default of a later call
        assert not graft(arguments), arguments
    written = {path.name for path in place.iterdir() if path.is_file()}
    assert {'features.parquet', 'neighbors.html', 'attention.html', 'logs.html'} <= written
    printed = capsys.readouterr().out
    assert 'config.py' in printed
    assert {arguments[0] for arguments in called} >= {'embed', 'map', 'neighbors', 'attention', 'browse', 'flops'}
