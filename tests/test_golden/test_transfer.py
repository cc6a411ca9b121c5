"""Conversion of checkpoints: names, dropped tensors and computed values against ``golden/transfer``.

A file's method, its branch, the target and its options are read off the names that the file holds. What was done to a
tensor is compared by its value: words for operations are ours.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_sets import golden_file, golden_names, some, starting
from helpers import assert_close, candidate_heads, tensor

from mmselfsup_graft.checkpoints import TARGETS, Conversion, convert, resize_position_table, resize_relative_table
from mmselfsup_graft.checkpoints.formats.encoder import detect_format
from mmselfsup_graft.targets.target_check import build_target_model

LIBRARIES = {'transformers': 'hf', 'huggingface': 'hf'}  # that our targets call otherwise
# classes of mmseg with names of their own -> our targets
OF_MMSEG = {'VisionTransformer': 'mmseg-vit', 'MAE': 'mmseg-mae'}
Tensors = dict[str, torch.Tensor]


def read(name: str) -> dict[str, Any]:
    return golden_file(name, 'transfer')


def cases() -> Iterator[Any]:
    """File and number of every target."""
    for name in golden_names('checkpoint', 'transfer'):
        try:
            targets = [each['target'].split()[0] for each in read(name)['targets']]
        except pytest.fail.Exception:
            targets = ['missing']  # the test fails with the name of the file
        for number, target in enumerate(targets):
            yield pytest.param(name, number, id=f'{name}-{number}-{target}')


# ---------------------------------------------------------------- a file as described
def short(shape: list[int], key: str) -> list[int]:
    """Small enough to be quick, and still valid where a conversion cuts, multiplies or re-orders."""
    if 'relative_position' in key:
        return [shape[0], min(shape[1], 2)] if key.endswith('_bias_table') else shape  # no more heads than channels
    if re.search(r'downsample\.(reduction|norm)\.', key):  # the merging layers of Swin, which read four patches
        return [*(min(size, 2) for size in shape[:-1]), 8]
    if 'cls_token' in key:
        return [min(size, 4) for size in shape]
    return [6 if '.qkv.' in key and axis == 0 else min(size, 2) for axis, size in enumerate(shape)]


def content_of(case: dict[str, Any]) -> dict[str, Any]:
    """A file as described: the right names, the entries of a tensor around its own number and all different."""
    state = {}
    for number, (key, shape, dtype) in enumerate(case['source']):
        size = short(shape, key)
        count = torch.Size(size).numel()
        entries = number + torch.arange(count) / (count + 1)
        state[key] = entries.reshape(size).to(getattr(torch, dtype))
    wrapper = case['checkpoint'].get('wrapper')
    siblings = {name: {} for name in case['checkpoint'].get('siblings', ()) if name != wrapper}
    return {**siblings, wrapper: state} if wrapper else state


def tensors_of(case: dict[str, Any], content: dict[str, Any]) -> Tensors:
    return content.get(case['checkpoint'].get('wrapper'), content)


# ---------------------------------------------------------------- what to ask for
def methods_of(name: str, content: dict[str, Any]) -> list[str]:
    """``auto``, and the method that the file is named after if it is one of such a file."""
    found = detect_format(content)
    assert found is not None, f'{name} is not recognized'
    plain = {text: re.sub(r'\W|_', '', text) for text in (name, found.name, *found.also)}
    named = [each for each in (found.name, *found.also) if plain[name].startswith(plain[each])]
    return ['auto', *sorted(named, key=len)[-1:]]


def branch_of(case: dict[str, Any], sources: list[str], content: dict[str, Any]) -> str | None:
    """Which encoder of the file is mapped; None where it is the one taken by default."""
    found = detect_format(content)
    assert found is not None
    for number, (name, branch) in enumerate(found.branches.items()):
        inside = branch.wrapper in (None, case['checkpoint'].get('wrapper'))
        if inside and any(source.startswith(prefix) for prefix in branch.prefixes if prefix for source in sources):
            return name if number else None
    return None


def target_of(text: str) -> str:
    """Our target for what a file calls ``library.Class``, perhaps with a remark."""
    words = re.findall(r'\w+', text)
    ours = next((LIBRARIES.get(word, word) for word in words if LIBRARIES.get(word, word) in TARGETS), None)
    assert ours, f'no target of ours for {text!r}'
    if ours != 'mmseg':
        return ours
    return next((OF_MMSEG[word] for word in words[words.index(ours) + 1 :][:1] if word in OF_MMSEG), ours)


def options_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """What the names of a target tell: a prefix, the norm after the last block, one table for all blocks."""
    names = [name for _, name, _ in some(wanted['map'], 'names')]
    first = {name.partition('.')[0] for name in names}
    before = f'{first.pop()}.' if len(first) == 1 else ''
    norm = any(re.fullmatch(r'(ln1|norm|layernorm)\.(weight|bias)', name.removeprefix(before)) for name in names)
    return dict(
        prefix=before,
        final_norm=(wanted.get('config') or {}).get('final_norm', norm),
        expand_shared_rel_pos=not any(name.startswith(f'{before}rel_pos_bias.') for name in names),
    )


@pytest.mark.parametrize(('name', 'number'), cases())
def test_names(name: str, number: int) -> None:
    case = read(name)
    wanted, content = case['targets'][number], content_of(case)
    sources = [source for source, *_ in case['source']]
    pairs = [(source, target) for source, target, _ in wanted['map']]
    taken = {source for source, _ in pairs}
    branch, target = branch_of(case, list(taken), content), target_of(wanted['target'])
    for method in methods_of(name, content):
        done = convert(content, 'file', target, wanted=method, branch=branch, **options_of(wanted))
        assert sorted((source, target) for source, target, _ in done.rows) == sorted(pairs)
        rest = [source for source in sources if source not in taken]
        assert sorted(done.dropped) == sorted(wanted.get('dropped', rest))
        assert list(done.dropped) == rest, 'in the order of the file'
        _check_values(done, tensors_of(case, content), wanted)


# ---------------------------------------------------------------- values
def _check_values(done: Conversion, source: Tensors, wanted: dict[str, Any]) -> None:
    """Every tensor is what its names say; tensors that are only renamed are not touched."""
    unchanged = {(s, t) for s, t, op in wanted['map'] if op == 'identity'}
    for entry in some(done.entries, 'tensors'):
        names = [name for name, _ in entry.origins]
        expected = _expected(entry.name, names, source)
        assert entry.tensor.dtype == source[names[0]].dtype
        assert torch.equal(entry.tensor, expected), f'{names} -> {entry.name}'
        if entry.origins[0][1] == 'identity':
            assert entry.tensor is source[names[0]], entry.name
        if (names[0], entry.name) in unchanged:
            assert torch.equal(entry.tensor, source[names[0]]), entry.name


def _expected(target: str, names: list[str], source: Tensors) -> torch.Tensor:
    """Value of a tensor of the target, by its name and what it is made from."""
    values = [source[name] for name in names]
    fused = '.qkv.' in names[0]
    part = re.search(r'\.(query|key|value|q_bias|v_bias)\b', target)
    if fused and part:
        return values[0].chunk(3)[{'q': 0, 'k': 1, 'v': 2}[part[1][0]]]
    if '.qkv.' in target and not fused:
        whole = values if len(values) == 3 else [values[0], torch.zeros_like(values[0]), values[1]]
        return torch.cat(whole)
    if target.endswith('cls_token'):
        return _merged_token(values[0], source)
    if re.search(r'downsample\.(reduction|norm)\.', target):
        there = 'stages.' in target
        return values[0] if there == ('stages.' in names[0]) else _reordered(values[0], to_mm=there)
    (value,) = values
    if target.endswith('layer_scale') == names[0].endswith('layer_scale'):
        return value
    return value.reshape(-1, 1, 1) if target.endswith('layer_scale') else value.reshape(-1)


def _merged_token(token: torch.Tensor, source: Tensors) -> torch.Tensor:
    """TEC's class token leaves an MLP, where there is one."""
    layers = {name.rpartition('cls_token_mlp.')[2]: v for name, v in source.items() if 'cls_token_mlp.' in name}
    if not layers:
        return token
    hidden = F.gelu(F.linear(token, layers['fc1.weight'], layers['fc1.bias']))
    return F.linear(hidden, layers['fc2.weight'], layers['fc2.bias'])


def _reordered(value: torch.Tensor, to_mm: bool) -> torch.Tensor:
    """What Swin's merging layers read: four quarters in the release, column by column; in mmcv interleaved, by rows."""
    channels = value.shape[-1] // 4
    done = torch.empty_like(value)
    for channel in range(channels):
        for patch, quarter in enumerate((0, 2, 1, 3)):
            interleaved, stacked = 4 * channel + patch, quarter * channels + channel
            there, here = (interleaved, stacked) if to_mm else (stacked, interleaved)
            done[..., there] = value[..., here]
    return done


# ---------------------------------------------------------------- with the head
def contrastive() -> list[str]:
    """Files of the kind that MMDetection's converter reads."""
    found = [
        name
        for name in golden_names('checkpoint', 'transfer')
        if '*' not in name and any(key.startswith('module.encoder_q.') for key, *_ in read(name)['source'])
    ]
    return found or ['missing']


@pytest.mark.parametrize('name', contrastive())
def test_with_the_head_it_is_what_mmdetection_makes(name: str) -> None:
    case = read(name)
    prefix = 'module.encoder_q.'
    names = [[key, key.removeprefix(prefix)] for key, *_ in case['source'] if key.startswith(prefix)]
    done = convert(content_of(case), 'file', 'mmdet', wanted='moco', keep_head=True)
    assert [[source, target] for source, target, _ in done.rows] == names, 'also in this order'
    recorded = (each for each in case.get('official', ()) if each.get('args', '').endswith('--selfsup moco'))
    for official in recorded:
        assert official['map'] == names
        assert list(done.dropped) == official['dropped']


# ---------------------------------------------------------------- numbers
def arrays(name: str) -> Tensors:
    content = golden_file(name, 'transfer/numeric')
    return {key: tensor(value, torch.float32) for key, value in content.items()}


def names_of(kind: str) -> list[str]:
    return golden_names(kind, 'transfer/numeric')


@torch.no_grad()
def tokens(done: Conversion, images: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens after each block [blocks, B, N, D], and what the converted model gives: after the norm if it has one."""
    model: Any = build_target_model(done, heads)
    model.load_state_dict(done.state, strict=True)
    model.eval()
    found: list[torch.Tensor] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    (last,) = model(images)
    return torch.stack(found), last


def heads_of(done: Conversion, data: Tensors) -> int:
    """How many heads the recorded model had, which no shape tells."""
    errors = {
        heads: (tokens(done, data['x'], heads)[0] - data['blocks']).abs().max().item()
        for heads in candidate_heads(done.architecture.width, 16)
    }
    best = min(errors, key=errors.__getitem__)
    assert errors[best] <= 2e-5, errors
    return best


@pytest.mark.parametrize('name', names_of('encoder'))
def test_features(name: str) -> None:
    data = arrays(name)
    content = {'model': some(starting(data, 'sd/'))}
    done = convert(content, name, 'mmpretrain', final_norm=False)
    heads = heads_of(done, data)
    if 'merged_cls_token' in data:
        assert_close(done.state['cls_token'], data['merged_cls_token'], atol=1e-6)
    if 'tokens_norm' in data:
        full = convert(content, name, 'mmpretrain')
        assert_close(tokens(full, data['x'], heads)[1], data['tokens_norm'], atol=2e-5)
    for size in starting(data, 'x_'):  # the same at another size
        images = data[f'x_{size}']
        larger = convert(content, name, 'mmpretrain', img_size=(images.shape[2], images.shape[3]))
        assert_close(larger.state['pos_embed'], data[f'pos_embed_{size}'], atol=1e-5)
        assert_close(tokens(larger, images, heads)[1], data[f'tokens_norm_{size}'], atol=2e-5)


@pytest.mark.parametrize('name', names_of('positions'))
def test_position_tables(name: str) -> None:
    data = arrays(name)
    ((grid, source),) = starting(data, 'src_').items()
    height, width = (int(side) for side in grid.split('x'))
    for size, wanted in some(starting(data, 'dst_'), 'sizes').items():
        made = resize_position_table(
            source, tuple(int(side) for side in size.split('x')), source.shape[1] - height * width
        )
        assert_close(made, wanted, atol=1e-5)


@pytest.mark.parametrize('name', names_of('relative_positions'))
def test_relative_position_tables(name: str) -> None:
    data = arrays(name)
    for key in some([key.removesuffix('_src') for key in data if key.endswith('_src')], 'tables'):
        before, after = (int(number) for number in re.findall(r'\d+', key)[-2:])
        extra = len(data[f'{key}_src']) - (2 * before - 1) ** 2  # of the class token, at the end
        made = resize_relative_table(data[f'{key}_src'], (after, after), extra)
        assert_close(made, data[f'{key}_dst'], atol=1e-5)
