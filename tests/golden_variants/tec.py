"""TEC: the letter in the name of a case is free, and so is what of the debug aids and gradients is recorded."""

import json
import random
import shutil
from pathlib import Path

import numpy as np

from .files import Json, Words, files_in, half, load, read_arrays, save, settings_of, shuffled


def write(source: Path, target: Path, words: Words) -> None:
    """The letter of each case becomes a word; one new model and one base model are there twice."""
    names: dict[str, str] = {}
    for path in files_in(source):
        kind, _, letter = path.stem.rpartition('_')
        if len(letter) == 1:
            names[path.name] = f'{kind}_{names.setdefault(letter, words.new())}{path.suffix}'
    for path in files_in(source):
        content = load(path)
        if isinstance(content, dict) and 'meta' in content:
            content = half(half(content, 'grad/'), 'cls_logits')
            meta = settings_of(content, 'meta')
            meta = {key: names.get(value, value) if isinstance(value, str) else value for key, value in meta.items()}
            content['meta'] = np.array(json.dumps(shuffled(meta)))
        save(target / names.get(path.name, path.name), _other_case_names(content, words))
    for kind in ('teacher', 'student'):
        first = sorted(target.glob(f'{kind}_*.npz'))[-1]
        shutil.copy(first, target / f'{kind}_{words.new()}.npz')
    aids = sorted(target.glob('teacher_*.npz'))[0]
    save(aids, {k: v for k, v in read_arrays(aids).items() if k not in ('block_last_tokens', 'cls_logits')})
    (layer_decay,) = target.glob('finetune_layer_decay_*.json')
    content = load(layer_decay)
    layer_decay.unlink()
    save(target / f'finetune_layer_decay_{words.new()}_0.8.json', _other_depth(content, depth=5, decay=0.8))


def _other_case_names(content: Json, words: Words) -> Json:
    cases = content if isinstance(content, list) else content.get('schedules', [])
    for case in cases if isinstance(cases, list) else []:
        case.update({key: words.new() for key in ('case', 'name') if key in case})
    random.shuffle(cases)
    return content


def _other_depth(content: Json, depth: int, decay: float) -> Json:
    """Layer decay of a ViT of another depth, by the rule of the published code."""
    blocks = [name.split('.', 2)[2] for name in content['groups'] if name.startswith('blocks.0.')]
    groups = {name: values for name, values in content['groups'].items() if not name.startswith('blocks.')}
    for name in [name for name in groups if name.startswith('patch_embed.')]:
        groups[name][0] = decay ** (depth + 1)
    for block in range(depth):
        for name in blocks:
            kept = content['groups'][f'blocks.0.{name}'][1]
            groups[f'blocks.{block}.{name}'] = [decay ** (depth - block), kept]
    rates = np.linspace(0, content['drop_path_rate'], depth).tolist()
    return {**content, 'layer_decay': decay, 'groups': shuffled(groups), 'drop_path_per_block': rates}
