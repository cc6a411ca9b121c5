"""Everything that reads a checkpoint file, and a process with little room that lets one of them read many files."""

import json
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.errors import GraftError

Reader = Callable[[Path], Any]
BACKBONE = {
    'type': 'SelfSupViT',
    'arch': {'embed_dims': 8, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 32},
    'img_size': 4,
    'patch_size': 2,
    'in_channels': 1,
}
HEAD = {'type': 'FirstFCHead', 'in_channels': 8, 'num_classes': 2, 'hidden_channels': 4}
_IMAGES = {'mean': [78.0], 'std': [81.0], 'to_rgb': False}


def readers(folder: Path) -> dict[str, Reader]:
    """Everything in the package that reads a checkpoint file."""
    from helpers import build, enter_scope, mae_config

    from mmselfsup_graft.analysis.interaction.report import load_classifier
    from mmselfsup_graft.checkpoints import GraftSource, depth_of, graft_weights, read_encoder, read_projector_start
    from mmselfsup_graft.engine.runners.pretrained import PretrainedPart, load_pretrained
    from mmselfsup_graft.evaluation.backbones import load_backbone
    from mmselfsup_graft.evaluation.whole_model import load_model
    from mmselfsup_graft.export.convert_file import ConvertOptions, convert_file
    from mmselfsup_graft.export.publish import publish_file
    from mmselfsup_graft.zoo.index import get_model

    enter_scope()
    model = build(BACKBONE)
    classifier = {'type': 'GraftedClassifier', 'backbone': BACKBONE, 'head': HEAD}
    whole = {'data_preprocessor': {'type': 'mmpretrain.SelfSupDataPreprocessor', **_IMAGES}}
    labeled = {'data_preprocessor': {'type': 'mmpretrain.ClsDataPreprocessor', **_IMAGES}}
    options = ConvertOptions(target='mmpretrain', overwrite=True)
    small = 'mae_vit-micro-p4_1xb64-coslr-210e_digits-16px'
    return {
        'graft': lambda path: graft_weights([GraftSource(str(path))], model.state_dict(), depth_of(model)),
        'encoder': read_encoder,
        'projector': read_projector_start,
        'convert': lambda path: convert_file(path, folder / 'converted.pth', options),
        'publish': lambda path: publish_file(path, folder / 'published.pth', overwrite=True),
        'zoo': lambda path: get_model(small, pretrained=path),
        'model': partial(load_model, Config({**whole, 'model': mae_config(BACKBONE)})),
        'classifier': partial(load_classifier, Config({**labeled, 'model': classifier})),
        'score': lambda path: load_backbone(BACKBONE, path),
        'part of a detector': lambda path: load_pretrained(PretrainedPart('backbone', model, str(path))),
    }


def assert_plain(value: Any, depth: int = 0) -> None:
    """Every value is of one of the very classes that are promised."""
    assert depth < 70
    if type(value) is dict:
        assert all(type(key) in (str, int) for key in value)
        value = list(value.values())
    if type(value) in (list, tuple):
        for each in value:
            assert_plain(each, depth + 1)
    elif type(value) is torch.Tensor:
        assert not vars(value)
        assert not value.requires_grad
        assert value.device.type == 'cpu'
    else:
        assert type(value) in (str, int, float, complex, bool, bytes, type(None), np.ndarray), type(value)


def outcome(read: Reader, path: Path) -> str:
    try:
        read(path)
    except GraftError as error:
        return str(error)
    except BaseException as error:
        return f'CRASH {type(error).__name__}: {error}'
    return ''


def read_plain(path: Path) -> None:
    assert_plain(read_checkpoint(path))


def _status(key: str) -> int:
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def read_all(kind: str, paths: dict[str, Path], good: Path, report: Path) -> None:
    """Read all files in a process with little room; the report says what came of each, and how much it grew."""
    torch.set_num_threads(1)
    read = read_plain if kind == 'checkpoint' else readers(report.parent)[kind]
    outcome(read, good)  # imports what it needs
    before = _status('VmHWM')
    room = _status('VmSize') + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CPU, (200, 200))
    said = {what: outcome(read, path) for what, path in paths.items()}
    report.write_text(json.dumps({'said': said, 'grew': _status('VmHWM') - before}))
