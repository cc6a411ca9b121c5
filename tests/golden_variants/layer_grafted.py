"""Layer Grafted Pre-training: names of files are fixed there."""

import random
from collections.abc import Callable
from pathlib import Path

from .files import Arrays, Json, Words, files_in, half, load, renamed, save


def write(source: Path, target: Path, words: Words) -> None:
    """File names are fixed there; cases, steps, batches and which gradients are recorded are not."""
    changes: dict[str, Callable[[Json], Json]] = {
        'moco_grads': lambda x: half(x, 'base_encoder.'),
        'moco_ema_after': lambda x: half(x, 'momentum_encoder.'),
        'classifier_gradient': lambda x: half(x, 'grad.'),
        'train_three_steps': lambda x: half(half(x, 'after.'), 'after_l1.'),
        'lars': lambda x: _other_tensors(x, words),
        'gradient_cosine': _fewer_batches,
        'gradient_cosine_inputs': _fewer_batches,
        'gradient_cosine_views': _fewer_batches,
        'layer_wise_lr': lambda x: renamed(x, words),
        'finetune_param_groups': lambda x: renamed(dict(list(x.items())[1:]), words),
        'grafting': lambda x: _other_checkpoints(x, words),
        'schedules': lambda x: renamed(_fewer_epochs(x), words),
        'l1_weight_distance': _fewer_depths,
    }
    for path in files_in(source):
        save(target / path.name, changes.get(path.stem, lambda x: x)(load(path)))


def _other_tensors(arrays: Arrays, words: Words) -> Arrays:
    """Of LARS: other names of the parameters, and one step less."""
    for name in [key.removeprefix('grad_') for key in arrays if key.startswith('grad_')]:
        other = words.new()
        arrays[f'grad_{other}'] = arrays.pop(f'grad_{name}')[:-1]
        arrays[f'{other}0'], arrays[f'{other}_after'] = arrays.pop(f'{name}0'), arrays.pop(f'{name}_after')[:-1]
    return arrays


def _fewer_batches(arrays: Arrays) -> Arrays:
    return {name: value if name == 'groups' or not value.ndim else value[:-1] for name, value in arrays.items()}


def _fewer_epochs(cases: dict[str, Json]) -> dict[str, Json]:
    """Every second of the recorded epochs."""
    for case in cases.values():
        length = len(case.get('epoch', ()))
        case.update({key: v[::2] for key, v in case.items() if isinstance(v, list) and len(v) == length})
        random.shuffle(case.get('heads', []))
    return cases


def _fewer_depths(content: Json) -> Json:
    needed = {str(content['grad_abs_sum_at']['to_block']), *content['covered']}
    values = content['value_by_to_block'].items()
    content['value_by_to_block'] = {k: v for k, v in values if k in needed or int(k) % 2}
    return content


def _other_checkpoints(content: Json, words: Words) -> Json:
    """Other names of the cases, and of the files that their arguments name."""
    files: dict[str, str] = {}
    for name in [key for key, case in content.items() if isinstance(case, dict) and 'arguments' in case]:
        case = content.pop(name)
        case['arguments'] = [
            files.setdefault(each, f'{words.new()}.pt') if '.pth' in each else each for each in case['arguments']
        ]
        content[words.new()] = case
    content['downstream'] = renamed(content['downstream'], words)
    return content
