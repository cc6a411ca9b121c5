"""A golden set that differs from the committed one in all that its READMEs leave open, with the same numbers.

Tests that take names, sizes, order or optional entries for granted fail on it. Files are renamed, cases in them too;
entries stand in another order; optional ones are left out; some files appear twice; checkpoints are shallower and
otherwise wrapped. What our own arithmetic can make anew is made anew: a wider kernel with zeros around the old one, the
layer decay of another depth, a Swin of three stages, a ViT whose blocks share one table of relative positions.
"""

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

Json = Any
Arrays = dict[str, np.ndarray]


class Words:
    """New names: none of them occurs in the committed set, none looks like another."""

    def __init__(self) -> None:
        self._numbers = count(41, 7)

    def new(self) -> str:
        """A name with a number in it."""
        return f'z{next(self._numbers)}_{random.choice("uvwxyz")}{random.randrange(10)}'


def write_variant(source: Path, target: Path, seed: int = 5) -> None:
    """Write a variant of a golden set.

    Args:
        source: Folder with the sets of all methods.
        target: Folder to create.
        seed: Of names and orders.
    """
    random.seed(seed)
    words = Words()
    makers: dict[str, Callable[[Path, Path, Words], None]] = {
        'layer_grafted': _layer_grafted,
        'tec': _tec,
        'a2mim': _a2mim,
        'transfer': _transfer,
        'transfer/numeric': _numeric,
    }
    for method, make in makers.items():
        (target / method).mkdir(parents=True)
        make(source / method, target / method, words)


# ---------------------------------------------------------------- files
def _arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def _settings(arrays: Arrays, key: str) -> Json:
    return json.loads(str(arrays[key]))


def _shuffled(mapping: dict[str, Any]) -> dict[str, Any]:
    names = list(mapping)
    random.shuffle(names)
    return {name: mapping[name] for name in names}


def _save(path: Path, content: Json) -> None:
    """Write arrays or an object, the entries at its top in another order."""
    content = _shuffled(content) if isinstance(content, dict) else content
    if path.suffix == '.json':
        path.write_text(json.dumps(content))
    else:
        np.savez(path, **content)


def _load(path: Path) -> Json:
    return json.loads(path.read_text()) if path.suffix == '.json' else _arrays(path)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.suffix in ('.npz', '.json'))


def _half(arrays: Arrays, prefix: str) -> Arrays:
    """Without every second of the optional arrays that start with a prefix."""
    left_out = [name for name in arrays if name.startswith(prefix)][1::2]
    return {name: value for name, value in arrays.items() if name not in left_out}


# ---------------------------------------------------------------- layer grafted pre-training
def _layer_grafted(source: Path, target: Path, words: Words) -> None:
    """File names are fixed there; cases, steps, batches and which gradients are recorded are not."""
    changes: dict[str, Callable[[Json], Json]] = {
        'moco_grads': lambda x: _half(x, 'base_encoder.'),
        'moco_ema_after': lambda x: _half(x, 'momentum_encoder.'),
        'classifier_gradient': lambda x: _half(x, 'grad.'),
        'train_three_steps': lambda x: _half(_half(x, 'after.'), 'after_l1.'),
        'lars': lambda x: _other_tensors(x, words),
        'gradient_cosine': _fewer_batches,
        'gradient_cosine_inputs': _fewer_batches,
        'gradient_cosine_views': _fewer_batches,
        'layer_wise_lr': lambda x: _renamed(x, words),
        'finetune_param_groups': lambda x: _renamed(dict(list(x.items())[1:]), words),
        'grafting': lambda x: _other_checkpoints(x, words),
        'schedules': lambda x: _renamed(_fewer_epochs(x), words),
        'l1_weight_distance': _fewer_depths,
    }
    for path in _files(source):
        _save(target / path.name, changes.get(path.stem, lambda x: x)(_load(path)))


def _renamed(cases: dict[str, Json], words: Words) -> dict[str, Json]:
    return {words.new(): _shuffled(case) for case in cases.values()}


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
    content['downstream'] = _renamed(content['downstream'], words)
    return content


# ---------------------------------------------------------------- TEC
def _tec(source: Path, target: Path, words: Words) -> None:
    """The letter of each case becomes a word; one new model and one base model are there twice."""
    names: dict[str, str] = {}
    for path in _files(source):
        kind, _, letter = path.stem.rpartition('_')
        if len(letter) == 1:
            names[path.name] = f'{kind}_{names.setdefault(letter, words.new())}{path.suffix}'
    for path in _files(source):
        content = _load(path)
        if isinstance(content, dict) and 'meta' in content:
            content = _half(_half(content, 'grad/'), 'cls_logits')
            meta = _settings(content, 'meta')
            meta = {key: names.get(value, value) if isinstance(value, str) else value for key, value in meta.items()}
            content['meta'] = np.array(json.dumps(_shuffled(meta)))
        _save(target / names.get(path.name, path.name), _other_case_names(content, words))
    for kind in ('teacher', 'student'):
        first = sorted(target.glob(f'{kind}_*.npz'))[-1]
        shutil.copy(first, target / f'{kind}_{words.new()}.npz')
    aids = sorted(target.glob('teacher_*.npz'))[0]
    _save(aids, {k: v for k, v in _arrays(aids).items() if k not in ('block_last_tokens', 'cls_logits')})
    (layer_decay,) = target.glob('finetune_layer_decay_*.json')
    content = _load(layer_decay)
    layer_decay.unlink()
    _save(target / f'finetune_layer_decay_{words.new()}_0.8.json', _other_depth(content, depth=5, decay=0.8))


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
    return {**content, 'layer_decay': decay, 'groups': _shuffled(groups), 'drop_path_per_block': rates}


# ---------------------------------------------------------------- A2MIM
_KINDS = ('backbone', 'e2e', 'ffl', 'head', 'interaction', 'mean_fill', 'neck')


def _a2mim(source: Path, target: Path, words: Words) -> None:
    changes: dict[str, Callable[[Arrays, Json], tuple[Arrays, Json]]] = {
        'backbone': _random_token,
        'e2e': _detached,
        'neck': _wider_kernel,
        'interaction': _with_sizes_in_words,
        'mask_generator': _fewer_masks,
        'fourier_features': _other_numbers,
        'param_groups': lambda arrays, settings: _other_set_ups(arrays, settings, words),
    }
    for path in _files(source):
        arrays, kind = _arrays(path), next((kind for kind in _KINDS if path.stem.startswith(f'{kind}_')), path.stem)
        if 'config' in arrays:
            arrays, settings = changes.get(kind, lambda *both: both)(arrays, _settings(arrays, 'config'))
            arrays['config'] = np.array(json.dumps(settings))
        _save(target / f'{kind}_{words.new()}.npz' if kind in _KINDS else target / path.name, arrays)


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


# ---------------------------------------------------------------- checkpoints
def _transfer(source: Path, target: Path, words: Words) -> None:
    layouts = (_as_it_is, _data_parallel, _in_half_precision, _below_a_backbone)
    for number, path in enumerate(_files(source)):
        case = layouts[number % len(layouts)](_shallow(_load(path)))
        for each in case['targets']:
            each['map'] = [[*pair, op if op == 'identity' else words.new()] for *pair, op in each['map']]
            random.shuffle(each['map'])
            for optional in ('config', 'dropped', 'check', 'note')[number % 2 :]:
                each.pop(optional, None)
        if number % 3:
            case.pop('official', None)
        case['id'] = words.new()
        _save(target / f'{case["id"]}.json', case)
    for made in (_swin(stages=3), _shared_table(depth=2)):
        _save(target / f'{words.new()}.json', made)


def _kept(case: Json, keep: Callable[[str], bool]) -> Json:
    """The case with those tensors of the file alone."""
    case['source'] = [row for row in case['source'] if keep(row[0])]
    for each in (*case['targets'], *case.get('official', ())):
        each['map'] = [row for row in each.get('map', ()) if keep(row[0])]
        each['dropped'] = [name for name in each.get('dropped', ()) if keep(name)]
    return case


def _moved(case: Json, source: Callable[[str], str], target: Callable[[str], str] = str) -> Json:
    """The case with other names in the file and in the targets."""
    case['source'] = [[source(name), *rest] for name, *rest in case['source']]
    for each in case['targets']:
        each['map'] = [[source(a), target(b), op] for a, b, op in each['map']]
        each['dropped'] = [source(name) for name in each['dropped']]
    case['official'] = []
    return case


def _shallow(case: Json, blocks: int = 2) -> Json:
    """Two blocks per stage."""
    number = re.compile(r'(?:^|\.)(?:blocks|layers|layer\d|stages\.\d)\.(\d+)\.')
    return _kept(case, lambda name: all(int(found) < blocks for found in number.findall(name)))


def _as_it_is(case: Json) -> Json:
    return case


def _data_parallel(case: Json) -> Json:
    """With and without ``module.``, the other way round; in a wrapper and without, likewise."""
    wrapper = case['checkpoint']['wrapper']
    if wrapper in (None, 'model', 'state_dict'):
        case['checkpoint'] = {'wrapper': 'state_dict' if wrapper != 'state_dict' else None}
    if all(name.startswith('module.') for name, *_ in case['source']):
        return _moved(case, lambda name: name.removeprefix('module.'))
    return _moved(case, lambda name: f'module.{name}') if _has_prefixes(case) else case


def _has_prefixes(case: Json) -> bool:
    return any(name.startswith(('backbone.', 'encoder_q.', 'base_encoder.')) for name, *_ in case['source'])


def _in_half_precision(case: Json) -> Json:
    case['source'] = [[n, s, 'bfloat16' if kind == 'float32' else kind] for n, s, kind in case['source']]
    return case


def _below_a_backbone(case: Json) -> Json:
    """Names in the targets behind ``backbone.``."""
    return _moved(case, str, lambda name: f'backbone.{name}')


def _swin(stages: int) -> Json:
    """A Swin of the release, as SimMIM stores it, and what OpenMMLab's class calls it."""
    rows: list[tuple[str, list[int], str]] = []

    def add(name: str, *shape: int, to: str = '', what: str = 'identity') -> None:
        rows.append((name, list(shape), to and f'{to} {what}'))

    for kind in ('weight', 'bias'):
        add(
            f'patch_embed.proj.{kind}',
            *((8, 3, 4, 4) if kind == 'weight' else (8,)),
            to=f'patch_embed.projection.{kind}',
        )
    for stage in range(stages):
        width = 8 * 2**stage
        old, new = f'layers.{stage}.blocks.0', f'stages.{stage}.blocks.0'
        add(f'{old}.attn.relative_position_bias_table', 9, 2, to=f'{new}.attn.w_msa.relative_position_bias_table')
        add(f'{old}.attn.qkv.weight', 3 * width, width, to=f'{new}.attn.w_msa.qkv.weight')
        add(f'{old}.mlp.fc1.bias', 4 * width, to=f'{new}.ffn.layers.0.0.bias')
        add(f'{old}.mlp.fc2.bias', width, to=f'{new}.ffn.layers.1.bias')
        add(f'{old}.attn_mask', 4, 4)
        if stage < stages - 1:
            merge = 'downsample.reduction.weight'
            add(f'layers.{stage}.{merge}', 2 * width, 4 * width, to=f'stages.{stage}.{merge}', what='another order')
            norm = 'downsample.norm.bias'
            add(f'layers.{stage}.{norm}', 4 * width, to=f'stages.{stage}.{norm}', what='another order')
    add('norm.weight', 8 * 2 ** (stages - 1), to=f'norm{stages - 1}.weight')
    mapped = [[f'encoder.{name}', *to.split(' ', 1)] for name, _, to in rows if to]
    return {
        'checkpoint': {'wrapper': 'model', 'siblings': ['config', 'lr_scheduler']},
        'source': [['mask_token', [1, 1, 8], 'float32'], *([f'encoder.{n}', s, 'float32'] for n, s, _ in rows)],
        'targets': [{'target': f'{each}.SwinTransformer', 'map': mapped} for each in ('mmpretrain', 'mmdet', 'mmseg')],
    }


def _shared_table(depth: int) -> Json:
    """A ViT as SimMIM stores it; the table that its blocks share stays one, or goes to each."""
    shapes: dict[str, list[int]] = {
        'cls_token': [1, 1, 8],
        'patch_embed.proj.weight': [8, 3, 4, 4],
        'rel_pos_bias.relative_position_bias_table': [12, 2],
    }
    names = {'cls_token': 'cls_token', 'patch_embed.proj.weight': 'patch_embed.projection.weight'}
    for block in range(depth):
        old, new = f'blocks.{block}', f'layers.{block}'
        for name, other, shape in (
            ('gamma_1', 'gamma_1', [8]),
            ('norm1.weight', 'ln1.weight', [8]),
            ('attn.q_bias', 'attn.q_bias', [8]),
            ('attn.v_bias', 'attn.v_bias', [8]),
            ('attn.qkv.weight', 'attn.qkv.weight', [24, 8]),
            ('mlp.fc1.weight', 'ffn.layers.0.0.weight', [16, 8]),
        ):
            shapes[f'{old}.{name}'], names[f'{old}.{name}'] = shape, f'{new}.{other}'
    table = 'rel_pos_bias.relative_position_bias_table'
    kept = [[f'encoder.{old}', new, 'identity'] for old, new in names.items()]
    one = [*kept, [f'encoder.{table}', table, 'identity']]
    own = [[f'encoder.{table}', f'layers.{i}.attn.{table.partition(".")[2]}', 'a copy each'] for i in range(depth)]
    return {
        'checkpoint': {'wrapper': 'model'},
        'source': [[f'encoder.{name}', shape, 'float32'] for name, shape in shapes.items()],
        'targets': [{'target': 'mmpretrain.BEiTViT', 'map': each} for each in (one, [*kept, *own])],
    }


def _numeric(source: Path, target: Path, words: Words) -> None:
    """Names tell nothing there; the tables of relative positions have other names, too."""
    for path in _files(source):
        kinds = {'vit': words.new().replace('_', ''), 'swin': words.new().replace('_', '')}
        arrays = {
            re.sub(r'^(vit|swin)(?=_\d)', lambda m, kinds=kinds: kinds[m[1]], name): value
            for name, value in _arrays(path).items()
        }
        _save(target / f'{words.new()}.npz', arrays)
