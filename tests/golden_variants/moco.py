"""MoCo v1 and v2: what follows the kind in the name of a file is free, and so is which gradients are recorded."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .files import Arrays, Json, Words, files_in, half, load, renamed, save, settings_of, shuffled

_NAMED = ('moco_step', 'moco_train', 'moco_two_ranks', 'moco_queue', 'moco_checkpoint')


def write(source: Path, target: Path, words: Words) -> None:
    """Other names, fewer gradients and tensors, ranks joined in the queue, checkpoints of one GPU."""
    changes: dict[str, Callable[[Json], Json]] = {
        'moco_step': lambda x: half(half(x, 'grad.'), 'after.'),
        'moco_train': lambda x: half(x, 'after.encoder_'),
        'moco_two_ranks': lambda x: half(x, 'grad_mean.'),
        'moco_queue': _joined_ranks,
        'moco_checkpoint': _of_one_gpu,
        'moco_schedules': lambda x: _other_cases(x, words),
        'augmentations': lambda x: _other_crops(x, words),
    }
    for path in (path for path in files_in(source) if not path.name.startswith('swav')):
        kind = next((kind for kind in _NAMED if path.stem.startswith(f'{kind}_')), path.stem)
        content = changes.get(kind, lambda x: x)(load(path))
        if 'config' in content:
            content['config'] = np.array(json.dumps(shuffled(settings_of(content, 'config'))))
        save(target / f'{kind}_{words.new()}{path.suffix}', content)


def _joined_ranks(arrays: Arrays) -> Arrays:
    """One rank with the keys of all, and one step less."""
    settings = settings_of(arrays, 'config')
    settings.update(world_size=1, batch_per_rank=settings['world_size'] * settings['batch_per_rank'])
    keys = arrays['keys'].reshape(len(arrays['keys']), 1, settings['batch_per_rank'], -1)
    fewer = {name: arrays[name][:-1] for name in ('queue', 'queue_ptr')}
    return {**arrays, **fewer, 'keys': keys[:-1], 'config': np.array(json.dumps(settings))}


def _of_one_gpu(case: Json) -> Json:
    """Without ``module.`` in the names of tensors."""
    return json.loads(re.sub(r'"module\.', '"', json.dumps(case)))


def _other_cases(content: Json, words: Words) -> Json:
    random.shuffle(content['queue_divisibility'])
    return {**content, 'schedules': renamed(dict(list(content['schedules'].items())[1:]), words)}


def _other_crops(content: Json, words: Words) -> Json:
    return {'pipelines': shuffled(content['pipelines']), 'crop_statistics': renamed(content['crop_statistics'], words)}
