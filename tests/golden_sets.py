"""Golden sets: which files there are, and how tests find them.

A set is a folder with a sub-folder per method, chosen by the environment variable ``GRAFT_GOLDEN`` (default: the small
set committed under ``tests/data/golden``). Tests name a kind of file; :data:`KINDS` alone knows by which names and keys
such files are recognized, which is what the README of a set fixes. Everything else (letters and numbers in names, how
many files there are, sizes, settings) is read.

What is missing is a failure, never a skip: a kind without a file, a file without the keys.
"""

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest

COMMITTED = Path(__file__).parent / 'data' / 'golden'
Content = TypeVar('Content')


class Kind(NamedTuple):
    """One kind of file.

    Attributes:
        pattern: Glob pattern of its names.
        key: Regular expression; a file of this kind has a key that it matches in full.
    """

    pattern: str
    key: str = '.*'


# names that the README of the set lists one by one
_LAYER_GRAFTED = (
    'classifier_gradient.npz',
    'contrastive_two_ranks.npz',
    'finetune_param_groups.json',
    'gradient_cosine.npz',
    'gradient_cosine_inputs.npz',
    'gradient_cosine_views.npz',
    'grafting.json',
    'l1_weight_distance.json',
    'lars.npz',
    'layer_wise_lr.json',
    'logistic_regression.npz',
    'mae_decoder_state.npz',
    'moco_ema_after.npz',
    'moco_ema_after_norms.json',
    'moco_grad_norms.json',
    'moco_grads.npz',
    'moco_masked_views.npz',
    'moco_state_base.npz',
    'moco_state_momentum.npz',
    'moco_step.npz',
    'other_cl_losses.npz',
    'pos_embed.npz',
    'schedules.json',
    'train_three_steps.npz',
    'train_three_steps_inputs.npz',
    'train_three_steps_norms.json',
)

KINDS: dict[str, dict[str, Kind]] = {
    'layer_grafted': {name: Kind(name) for name in _LAYER_GRAFTED},
    'tec': {
        'teacher': Kind('teacher_*.npz'),
        'student': Kind('student_*.npz'),
        'trace': Kind('train_trace*.npz'),
        'merge': Kind('merge*.npz'),
        'weight_decay': Kind('pretrain_weight_decay*.json'),
        'layer_decay': Kind('finetune_layer_decay*.json'),
        'schedule': Kind('lr_schedule*.json'),
        'positions': Kind('pos_embed*.npz'),
        'formats': Kind('base_checkpoint_formats*.json'),
    },
    'a2mim': {
        'backbone': Kind('backbone_*.npz'),
        'step': Kind('e2e_*.npz'),
        'frequency_loss': Kind('ffl_*.npz'),
        'head': Kind('head_*.npz'),
        'interaction': Kind('interaction_*.npz'),
        'mean_fill': Kind('mean_fill*.npz'),
        'neck': Kind('neck_*.npz'),
        'features': Kind('fourier_features*.npz'),
        'schedule': Kind('lr_schedule*.npz'),
        'masks': Kind('mask_generator*.npz'),
        'groups': Kind('param_groups*.npz'),
    },
    'moco_swav': {
        'swav_sinkhorn': Kind('swav_sinkhorn_*.npz'),
        'swav_loss': Kind('swav_loss_*.npz'),
        'swav_queue': Kind('swav_queue_*.npz'),
        'swav_ranks': Kind('swav_ranks_*.npz'),
        'swav_step': Kind('swav_step_*.npz'),
        'swav_train': Kind('swav_train_*.npz'),
        'swav_larc': Kind('swav_larc*.npz'),
        'swav_linear': Kind('swav_linear*.npz'),
        'swav_schedule': Kind('swav_schedules*.json'),
        'swav_checkpoint': Kind('swav_checkpoint_*.json'),
        'augmentations': Kind('augmentations*.json'),
        'moco_step': Kind('moco_step_*.npz'),
        'moco_train': Kind('moco_train_*.npz'),
        'moco_two_ranks': Kind('moco_two_ranks_*.npz'),
        'moco_queue': Kind('moco_queue_*.npz'),
        'moco_linear': Kind('moco_linear*.npz'),
        'moco_schedules': Kind('moco_schedules*.json'),
        'moco_checkpoint': Kind('moco_checkpoint_*.json'),
    },
    'transfer': {'checkpoint': Kind('*.json', 'targets')},
    'transfer/numeric': {
        'encoder': Kind('*.npz', 'blocks'),
        'positions': Kind('*.npz', r'dst_\d+x\d+'),
        'relative_positions': Kind('*.npz', '.+_src'),
    },
}


def golden_folder(method: str = 'layer_grafted') -> Path:
    """Folder with the golden files of a method in the chosen set."""
    root = Path(os.environ.get('GRAFT_GOLDEN') or COMMITTED)
    return (root if root.is_absolute() else Path.cwd() / root) / method


def is_shipped(method: str) -> bool:
    """Whether the chosen set has the settings that our configs repeat: the committed one, or one with its files."""
    chosen, ours = golden_folder(method), COMMITTED / method
    names = [path.name for path in ours.glob('*.json')]
    return all(
        (chosen / name).is_file() and (chosen / name).read_bytes() == (ours / name).read_bytes() for name in names
    )


def golden_names(kind: str, method: str = 'layer_grafted') -> list[str]:
    """Names of all files of a kind in the chosen set; where there are none its pattern, which cannot be read."""
    wanted = KINDS[method][kind]
    return [path.name for path in files_of(wanted, golden_folder(method))] or [wanted.pattern]


def files_of(kind: Kind, folder: Path) -> list[Path]:
    """Files of a kind in a folder."""
    found = sorted(folder.glob(kind.pattern))
    return [path for path in found if kind.key == '.*' or any(re.fullmatch(kind.key, key) for key in _read(path))]


def golden_file(name: str, method: str = 'layer_grafted') -> Any:
    """Content of a golden file: arrays of an ``.npz`` or the object of a ``.json``."""
    path = golden_folder(method) / name
    if not path.is_file():
        pytest.fail(f'there is no {name} in the golden set {path.parent}')
    return _read(path)


def golden(kind: str, method: str = 'layer_grafted') -> Any:
    """Content of the one file of a kind."""
    names = golden_names(kind, method)
    assert len(names) == 1, f'there are several files of the kind {kind}: {names}'
    return golden_file(names[0], method)


@cache
def _read(path: Path) -> Any:
    if path.suffix == '.json':
        return json.loads(path.read_text())
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def some(found: Content, what: str = 'keys') -> Content:
    """``found``, which must not be empty: what compares nothing would pass."""
    assert len(found), f'there are no {what} to compare'  # type: ignore[arg-type]
    return found


def starting(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Entries whose names start with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
