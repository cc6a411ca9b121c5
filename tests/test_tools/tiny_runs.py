"""Training runs that take seconds: configs as dicts, and the tools called in this process or in one of their own."""

import contextlib
import importlib.util
import io
import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reference.swav
import torch
from forked import Forked
from helpers import mae_config, moco_config, multi_task_config, vit_config

ROOT = Path(__file__).parents[2]
DEPTH = 3

_VIEW = [
    dict(type='mmpretrain.torchvision/RandomResizedCrop', size=16, scale=(0.5, 1.0)),
    dict(type='PILGaussianNoise', std=0.05),
]
_PACK = [dict(type='mmpretrain.PackInputs')]
_CROPS = [dict(num=2, size=16, area=(0.5, 1.0)), dict(num=2, size=8, area=(0.1, 0.5))]
_LARC = dict(type='LARS', lr=0.3, weight_decay=1e-6, adapt_1d=True, separate_norms=True, eps=1e-8)


# ---------------------------------------------------------------- configs
def digits(split: str, pipeline: list[dict], **options: Any) -> dict[str, Any]:
    """Config of scikit-learn's digits at 16 px."""
    return dict(type='Digits', split=split, img_size=16, pipeline=pipeline, **options)


def evaluation(images: int = 200, **options: Any) -> dict[str, Any]:
    """The ``evaluation`` section of a config, on few images and draws."""
    pipeline = [dict(type='LoadImage', channels=1), *_PACK]
    sides = {split: digits(split, pipeline, indices=images) for split in ('train', 'test')}
    return {**sides, 'few_shot': dict(shots=[1, 2], draws=2), 'knn': dict(k=[5]), **options}


def tiny_config(kind: str = 'cl', images: int = 48, batch: int = 8, epochs: int = 2, **options: Any) -> dict[str, Any]:
    """Content of a whole training config: ``kind`` is ``mim``, ``cl``, ``lgp`` (``cl`` with layer-wise rates),
    ``swav`` (crops of two sizes; prototypes that are frozen for 3 steps, a queue from epoch 1 on) or ``multi`` (``mim``
    and ``cl`` on one encoder).

    Blocks have drop path and views are random, so that a wrong random state shows in the weights.
    """
    backbone = vit_config(depth=DEPTH, in_channels=1, drop_path_rate=0.2)
    views = [dict(type='TwoViews', view1=_VIEW)] if kind != 'mim' else _VIEW
    if kind == 'multi':
        views = [dict(type='Views', views=[_VIEW, _VIEW, _VIEW])]
        model = multi_task_config(backbone)
    elif kind == 'swav':
        views = [dict(type='MultiCrop', crops=_CROPS, transforms=_VIEW[1:])]
        model = swav_config(frozen_steps=3, queue_length=20, epoch_queue_starts=1)
    else:
        model = mae_config(backbone) if kind == 'mim' else moco_config({**backbone, 'stop_grad_patch_embed': True})
    hooks: dict[str, Any] = {} if kind == 'mim' else {'momentum': dict(type='MomentumScheduleHook')}
    optimizer = dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    if kind == 'swav':
        hooks, optimizer = {'steps': dict(type='OptimizerStepHook')}, _LARC
    schedule = dict(
        type='WarmupCosineLR', warmup=min(1, epochs - 1), end=epochs, by_epoch=True, convert_to_iter_based=True
    )
    config = {
        '_base_': [str(ROOT / 'configs' / '_base_' / 'default_runtime.py')],
        'model': model,
        'data_preprocessor': dict(type='mmpretrain.SelfSupDataPreprocessor', mean=[78.0], std=[81.0], to_rgb=False),
        'train_dataloader': dict(
            batch_size=batch,
            num_workers=0,
            drop_last=True,
            sampler=dict(type='SeededSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
            dataset=digits('train', [dict(type='LoadImage', channels=1), *views, *_PACK], indices=images),
        ),
        'optim_wrapper': dict(
            type='OptimWrapper',
            optimizer=optimizer,
            constructor='LayerWiseLRConstructor',
            paramwise_cfg=dict(lr_layer_wise=[0.1, 0.1, 1.0]) if kind == 'lgp' else dict(no_decay_1d=True),
        ),
        'param_scheduler': [schedule],
        'train_cfg': dict(type='ResumableEpochLoop', max_epochs=epochs),
        'default_hooks': {'history': dict(interval=1, seconds=0.0), **hooks},
        'auto_scale_lr': dict(enable=False, base_batch_size=batch),
        'evaluation': evaluation(),
    }
    return merged(config, options)


def swav_config(**head: Any) -> dict[str, Any]:
    """Config of a small SwAV on a ResNet for images of one channel."""
    model = reference.swav.resnet(**head)
    return {**model, 'backbone': {**model['backbone'], 'in_channels': 1}}


def merged(config: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """``config`` with dicts merged key by key; every other value, and a dict of another ``type``, is replaced."""
    result = dict(config)
    for key, value in options.items():
        old = result.get(key)
        mergeable = isinstance(old, dict) and isinstance(value, dict)
        if mergeable and value.get('type') in (None, old.get('type')):
            value = merged(old, value)
        result[key] = value
    return result


def write_config(path: Path, content: dict[str, Any]) -> Path:
    """Write a config file: one ``key = value`` per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(f'{key} = {value!r}' for key, value in content.items()) + '\n')
    return path


# ---------------------------------------------------------------- tools
@dataclass
class Outcome:
    """How a tool ended."""

    code: int
    out: str
    err: str

    def error(self, code: int = 1) -> str:
        """The error line: the tool must have failed with this one line on stderr and no traceback."""
        assert self.code == code, f'exit code {self.code}, stderr {self.err[-2000:]}'
        lines = [line for line in self.err.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith('error: ')]
        assert len(errors) == 1, self.err[-2000:]
        assert lines[-1] == errors[0]
        assert 'Traceback' not in self.err + self.out
        return errors[0].removeprefix('error: ')


def tool_main(name: str) -> Any:
    """The ``main`` of ``tools/NAME.py``."""
    spec = importlib.util.spec_from_file_location(f'graft_tool_{name}', ROOT / 'tools' / f'{name}.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def call_tool(name: str, *arguments: Any) -> Outcome:
    """Run a tool inside this process, as ``python tools/NAME.py ARGUMENTS`` would."""
    from mmselfsup_graft.cli.running import run_tool

    out, err = io.StringIO(), io.StringIO()
    code: Any = 'never left'
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_tool(tool_main(name), [str(each) for each in arguments])
        except SystemExit as leaving:
            code = leaving.code
    return Outcome(code, out.getvalue(), err.getvalue())


def fresh_name() -> list[str]:
    """Option that keeps mmengine's loggers, which live as long as the process, apart."""
    return ['--cfg-options', f'experiment_name=run_{uuid.uuid4().hex}']


def start_tool(name: str, *arguments: Any, folder: Path | None = None, **environment: str) -> Forked:
    """Start ``python tools/NAME.py ARGUMENTS`` in a process of its own."""
    variables = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **environment}
    command = [sys.executable, str(ROOT / 'tools' / f'{name}.py'), *map(str, arguments)]
    return Forked(command, cwd=folder, env=variables)


def run_tool_process(name: str, *arguments: Any, folder: Path | None = None, **environment: str) -> Outcome:
    """Run a tool in a process of its own to its end."""
    process = start_tool(name, *arguments, folder=folder, **environment)
    out, err = process.communicate(timeout=600)
    return Outcome(process.wait(), out, err)


# ---------------------------------------------------------------- checkpoints
def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it."""
    return torch.load(path, map_location='cpu', weights_only=True)


def assert_identical(actual: Any, expected: Any, where: str = '') -> None:
    """Compare two nests of dicts, lists and tensors bit for bit."""
    assert type(actual) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert actual.dtype == expected.dtype, where
        assert torch.equal(actual, expected), f'{where}: differs by up to {(actual - expected).abs().max()}'
    elif isinstance(expected, dict):
        assert list(actual) == list(expected), where
        for key in expected:
            assert_identical(actual[key], expected[key], f'{where}.{key}')
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected), where
        for index, pair in enumerate(zip(actual, expected)):
            assert_identical(*pair, f'{where}[{index}]')
    else:
        assert actual == expected, where


def assert_same_run(actual: Path, expected: Path) -> None:
    """Two checkpoints hold the same weights, optimizer, schedules, iteration and epoch, bit for bit."""
    first, second = load(actual), load(expected)
    assert any('momentum_encoder.' in name for name in second['state_dict']) == (
        'MomentumEncoder' in second['meta']['cfg'] or 'MoCo' in second['meta']['cfg']
    )
    assert second['optimizer']['state']
    for content in (first, second):  # entries stand in the order in which parameters first got a gradient
        content['optimizer']['state'] = dict(sorted(content['optimizer']['state'].items()))
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_identical(first[part], second[part], part)
    for part in ('iter', 'epoch', 'seed'):
        assert first['meta'][part] == second['meta'][part], part
