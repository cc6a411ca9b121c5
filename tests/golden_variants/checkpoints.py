"""Checkpoints to convert: files have any name, and hold any layout."""

import random
import re
from collections.abc import Callable
from pathlib import Path

from .files import Json, Words, files_in, load, read_arrays, save
from .layouts import shared_table, swin


def write(source: Path, target: Path, words: Words) -> None:
    layouts = (_as_it_is, _data_parallel, _in_half_precision, _below_a_backbone)
    for number, path in enumerate(files_in(source)):
        case = layouts[number % len(layouts)](_shallow(load(path)))
        for each in case['targets']:
            each['map'] = [[*pair, op if op == 'identity' else words.new()] for *pair, op in each['map']]
            random.shuffle(each['map'])
            for optional in ('config', 'dropped', 'check', 'note')[number % 2 :]:
                each.pop(optional, None)
        if number % 3:
            case.pop('official', None)
        case['id'] = words.new()
        save(target / f'{case["id"]}.json', case)
    for made in (swin(stages=3), shared_table(depth=2)):
        save(target / f'{words.new()}.json', made)


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
    return _moved(case, lambda name: f'module.{name}')


def _in_half_precision(case: Json) -> Json:
    case['source'] = [[n, s, 'bfloat16' if kind == 'float32' else kind] for n, s, kind in case['source']]
    return case


def _below_a_backbone(case: Json) -> Json:
    """Names in the targets behind ``backbone.``."""
    return _moved(case, str, lambda name: f'backbone.{name}')


def write_numeric(source: Path, target: Path, words: Words) -> None:
    """Names tell nothing there; the tables of relative positions have other names, too."""
    for path in files_in(source):
        kinds = {'vit': words.new().replace('_', ''), 'swin': words.new().replace('_', '')}
        arrays = {
            re.sub(r'^(vit|swin)(?=_\d)', lambda m, kinds=kinds: kinds[m[1]], name): value
            for name, value in read_arrays(path).items()
        }
        save(target / f'{words.new()}.npz', arrays)
