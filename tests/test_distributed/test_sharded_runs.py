"""A sharded run of the runner: the same losses and files as any other run, and it can be resumed."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build, run_ranks
from mmengine.config import Config
from test_tools.tiny_runs import evaluation, tiny_config, write_config

from mmselfsup_graft.checkpoints import read_encoder
from mmselfsup_graft.engine.train import load_config, train
from mmselfsup_graft.errors import ConfigError

WORLD, HALF, LAST = 2, 2, 4  # two epochs of two iterations


def content(hooks: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Layer Grafted's second stage, with rates per layer, a momentum encoder and batch norm, and clipping."""
    checkpoint = dict(by_epoch=False, interval=HALF, max_keep_ckpts=-1)
    export = dict(type='ExportBackboneHook')
    kept = dict(checkpoint=checkpoint, export=export, **(hooks or {}))
    config = tiny_config('lgp', images=32, default_hooks=kept, **options)
    config['optim_wrapper']['clip_grad'] = dict(max_norm=1.0)
    return config


def start(folder: Path, name: str, resume: bool = False, **options: Any) -> None:
    """Train a config in a folder of its own."""
    path = folder / f'{name}.{os.environ["LOCAL_RANK"]}.py'
    cfg: Config = load_config(write_config(path, content(**options)))
    cfg.work_dir, cfg.launcher, cfg.resume = str(folder / name), 'pytorch', resume
    cfg.experiment_name = f'{folder.name}_{name}'
    train(cfg)


def all_runs(rank: int, path: str) -> None:
    """Every run, on this rank."""
    os.environ['LOCAL_RANK'] = str(rank)
    folder, sharded = Path(path), dict(model_wrapper_cfg=dict(type='FullySharded'))
    start(folder, 'plain')
    start(folder, 'sharded', **sharded, activation_checkpointing=True)
    if rank == 0:
        for name in ('resumed', 'resumed_plain'):
            (folder / name).mkdir()
            shutil.copy(folder / 'sharded' / f'iter_{HALF}.pth', folder / name)
    torch.distributed.barrier()
    start(folder, 'resumed', resume=True, **sharded, activation_checkpointing=True)
    start(folder, 'resumed_plain', resume=True)
    watched = dict(knn=dict(type='KNNHook', train=evaluation()['train'], test=evaluation()['test']))
    with pytest.raises(ConfigError, match='KNNHook needs the whole weights'):
        start(folder, 'watched', **sharded, hooks=watched)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs are."""
    path = tmp_path_factory.mktemp('runs')
    run_ranks(all_runs, WORLD, str(path))
    return path


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / name / f'iter_{LAST}.pth', weights_only=True)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name / 'history.jsonl').read_text().splitlines()]


def test_losses_and_rates_are_those_of_replicated_processes(folder: Path) -> None:
    plain, sharded = lines(folder, 'plain'), lines(folder, 'sharded')
    assert len(plain) == LAST
    assert [line['lr'] for line in sharded] == [line['lr'] for line in plain]
    assert [line['loss'] for line in sharded] == pytest.approx([line['loss'] for line in plain], rel=1e-4)


def test_the_file_is_that_of_any_other_run(folder: Path) -> None:
    plain, sharded = checkpoint(folder, 'plain'), checkpoint(folder, 'sharded')
    build(content()['model']).load_state_dict(sharded['state_dict'], strict=True)
    assert all(type(value) is torch.Tensor for value in sharded['state_dict'].values())
    assert sharded['optimizer']['param_groups'] == plain['optimizer']['param_groups']
    shapes = [
        {
            number: {key: value.shape for key, value in each.items()}
            for number, each in file['optimizer']['state'].items()
        }
        for file in (sharded, plain)
    ]
    assert shapes[0] == shapes[1]
    assert 'recompute = True' in sharded['meta']['cfg']
    encoder = read_encoder(str(folder / 'sharded' / f'iter_{LAST}.pth'))
    assert torch.equal(encoder.state['cls_token'], sharded['state_dict']['backbone.cls_token'])
    exported = read_encoder(str(folder / 'sharded' / 'backbone.pth')).state
    assert all(torch.equal(value, encoder.state[name]) for name, value in exported.items())
    assert len(exported) > 10


def test_a_resumed_run_ends_with_the_same_bits(folder: Path) -> None:
    left_alone, resumed = checkpoint(folder, 'sharded'), checkpoint(folder, 'resumed')
    for name, value in left_alone['state_dict'].items():
        assert torch.equal(resumed['state_dict'][name], value), name
    for number, moments in left_alone['optimizer']['state'].items():
        for name, value in moments.items():
            assert torch.equal(resumed['optimizer']['state'][number][name], value), f'{name} of {number}'
    half = torch.load(folder / 'sharded' / f'iter_{HALF}.pth', weights_only=True)
    assert not torch.equal(half['state_dict']['backbone.cls_token'], left_alone['state_dict']['backbone.cls_token'])


def test_a_sharded_run_can_go_on_unsharded(folder: Path) -> None:
    sharded, plain = lines(folder, 'sharded'), lines(folder, 'resumed_plain')
    assert [line['loss'] for line in plain] == pytest.approx([line['loss'] for line in sharded[HALF:]], rel=1e-4)
