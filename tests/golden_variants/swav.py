"""SwAV: what follows the kind in the name of a file is free, and so is what is recorded of gradients and statistics."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .files import Arrays, Json, Words, files_in, half, load, renamed, save, settings_of, shuffled

_KINDS = ('sinkhorn', 'loss', 'queue', 'ranks', 'step', 'train', 'checkpoint')
_FOR_THE_RECORD = ('method', 'seed', 'pool', 'head', 'published_float32_finite', 'checkpoint_files')


def write(source: Path, target: Path, words: Words) -> None:
    """Other names; one rank changes places with another, prototypes with each other; some arrays are left out."""
    changes: dict[str, Callable[[Arrays], Arrays]] = {
        'sinkhorn': _other_prototypes,
        'queue': _fewer_steps,
        'ranks': _ranks_turned,
        'step': lambda arrays: half(half(arrays, 'grad.'), 'after.'),
        'train': lambda arrays: half(arrays, 'after.'),
        'larc': lambda arrays: _other_tensors(arrays, words),
    }
    for path in files_in(source):
        if not path.stem.startswith('swav_'):
            continue
        content, kind = load(path), path.stem.split('_')[1]
        if path.suffix == '.npz':
            content = changes.get(kind, dict)(content)
            settings = {key: v for key, v in settings_of(content, 'config').items() if key not in _FOR_THE_RECORD}
            content['config'] = np.array(json.dumps(shuffled(settings)))
        elif kind == 'schedules':
            content = _other_schedules(content, words)
        save(target / f'swav_{kind}_{words.new()}{path.suffix}' if kind in _KINDS else target / path.name, content)


def _other_prototypes(arrays: Arrays) -> Arrays:
    """Samples and prototypes in another order, the codes with them."""
    samples, prototypes = (np.random.default_rng(1).permutation(side) for side in arrays['scores'].shape)
    return {k: v if k == 'config' else v[samples][:, prototypes] for k, v in arrays.items()}


def _fewer_steps(arrays: Arrays) -> Arrays:
    steps = len(arrays['z']) - 1
    return {k: v if k in ('config', 'prototypes') else v[:steps] for k, v in arrays.items()}


def _ranks_turned(arrays: Arrays) -> Arrays:
    """The last rank first; nothing that all ranks share depends on their order."""
    shared = ('config', 'prototypes', 'loss_joined_batch', 'grad_prototypes_mean')
    return {k: v if k in shared else v[::-1].copy() for k, v in arrays.items()}


def _other_tensors(arrays: Arrays, words: Words) -> Arrays:
    """Tensors with other names."""
    for old in [name.removesuffix('_after') for name in arrays if name.endswith('_after')]:
        new = words.new()
        for form in ('{}0', 'grad_{}', '{}_after'):
            if form.format(old) in arrays:
                arrays[form.format(new)] = arrays.pop(form.format(old))
    return arrays


def _other_schedules(content: Json, words: Words) -> Json:
    content['schedules'] = renamed(content['schedules'], words)
    random.shuffle(content['queue_length'])
    for group in content['semi_supervised']['groups']:
        random.shuffle(group['names'])
    return content
