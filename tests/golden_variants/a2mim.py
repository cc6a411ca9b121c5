"""A2MIM: what follows the kind in the name of a file is free."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .files import Arrays, Json, Words, files_in, read_arrays, save, settings_of
from .tokens import with_token

_KINDS = ('backbone', 'e2e', 'ffl', 'head', 'interaction', 'mean_fill', 'neck')


_TOKENS = (('mean', False), ('instance_mean', True), ('zero', True))  # kind, and whether gradients are cut


def write(source: Path, target: Path, words: Words) -> None:
    """Other names and settings, and other kinds of tokens."""
    changes: dict[str, Callable[[Arrays, Json], tuple[Arrays, Json]]] = {
        'backbone': _random_token,
        'e2e': _detached,
        'neck': _wider_kernel,
        'interaction': _with_sizes_in_words,
        'mask_generator': _fewer_masks,
        'fourier_features': _other_numbers,
        'param_groups': lambda arrays, settings: _other_set_ups(arrays, settings, words),
    }
    for path in files_in(source):
        arrays = read_arrays(path)
        kind = next((kind for kind in _KINDS if path.stem.startswith(f'{kind}_')), path.stem)
        if kind == 'backbone':
            for other in (with_token(arrays, settings_of(arrays, 'config'), *token) for token in _TOKENS):
                if other is not None:
                    save(target / f'{kind}_{words.new()}.npz', other)
        if 'config' in arrays:
            arrays, settings = changes.get(kind, lambda *both: both)(arrays, settings_of(arrays, 'config'))
            arrays['config'] = np.array(json.dumps(settings))
        save(target / f'{kind}_{words.new()}.npz' if kind in _KINDS else target / path.name, arrays)


def _random_token(arrays: Arrays, settings: Json) -> tuple[Arrays, Json]:
    """A token that is there, but is not learned; what is only told for the record is left out."""
    settings = {key: v for key, v in settings.items() if key not in ('input', 'train_pass', 'drop_path_rate', 'width')}
    if 'ViT' in settings['type']:
        settings['mask_token'] = 'randn'
        arrays.pop('grad_mask_token')
    arrays.pop('grad_mask_gamma', None)
    return arrays, settings


def _detached(arrays: Arrays, settings: Json) -> tuple[Arrays, Json]:
    """Nothing flows into features that are replaced; so it is the same to say that none may."""
    if settings['backbone']['replace']:
        settings['backbone']['detach'] = True
    settings['neck'].pop('kernel_size', None)
    return arrays, settings


def _wider_kernel(arrays: Arrays, settings: Json) -> tuple[Arrays, Json]:
    """A kernel of 3 with zeros around the old one."""
    if 'kernel_size' in settings:
        settings['kernel_size'] = 3
        arrays['sd.decoder_pred.0.weight'] = np.pad(
            arrays['sd.decoder_pred.0.weight'], ((0, 0), (0, 0), (1, 1), (1, 1))
        )
    return arrays, settings


def _with_sizes_in_words(arrays: Arrays, settings: Json) -> tuple[Arrays, Json]:
    settings['net'] = settings['net'].replace('Linear', 'Linear(8)')
    return arrays, settings


def _fewer_masks(arrays: Arrays, settings: Json) -> tuple[Arrays, Json]:
    order = list(range(len(settings)))[:0:-1]
    moved = {f'{key}_{new}': arrays[f'{key}_{old}'] for new, old in enumerate(order) for key in ('perm', 'mask')}
    return {'config': arrays['config'], **moved}, [settings[old] for old in order]


def _other_numbers(arrays: Arrays, settings: Json) -> tuple[Arrays, Json]:
    return {re.sub(r'_(\d+)$', lambda m: f'_{3 * int(m[1]) + 2}', name): v for name, v in arrays.items()}, settings


def _other_set_ups(arrays: Arrays, settings: Json, words: Words) -> tuple[Arrays, Json]:
    for old in [name.removesuffix('_name') for name in arrays if name.endswith('_name')]:
        new = words.new()
        for key in ('name', 'lr', 'wd'):
            arrays[f'{new}_{key}'] = arrays.pop(f'{old}_{key}')[::-1]
        if f'{old}_layer_decay' in settings:
            settings[f'{new}_layer_decay'] = settings.pop(f'{old}_layer_decay')
    return arrays, settings
