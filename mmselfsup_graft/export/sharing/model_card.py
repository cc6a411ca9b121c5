"""The model card of a repository: what the encoder is, its scores, and lines that load it."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from mmselfsup_graft.evaluation.score_table import FEATURE_NAMES
from mmselfsup_graft.export.source_model import SourceModel

from .hub_layouts import OWN, Layout

_CHOSEN = {'test': 'the evaluation set itself', 'holdout': 'a held-out part of the training set'}
_NOT_SETTINGS = ('selection', 'seed')


def model_card(
    model: SourceModel, layout: Layout, name: str, rows: Sequence[Mapping[str, Any]], license_name: str | None = None
) -> str:
    """Text of ``README.md``.

    Args:
        model: What is shared.
        layout: Its files.
        name: ``user/name``.
        rows: Result rows of the checkpoint; may be empty.
        license_name: License of the weights, as the hub spells it; None leaves it out.
    """
    parts = [
        _header(model, layout, license_name),
        f'# {name.rpartition("/")[2]}',
        _about(model, layout, license_name),
        '## Load it',
        *_loading(model, layout, name),
        '## Scores',
        _scores(rows),
    ]
    return '\n\n'.join(parts) + '\n'


def _header(model: SourceModel, layout: Layout, license_name: str | None) -> str:
    content: dict[str, Any] = {} if license_name is None else {'license': license_name}
    content['library_name'] = layout.library
    content['pipeline_tag'] = 'image-feature-extraction' if model.classifier is None else 'image-classification'
    content['tags'] = list(dict.fromkeys(['self-supervised-learning', OWN, layout.library]))
    return f'---\n{yaml.safe_dump(content, sort_keys=False).strip()}\n---'


def _about(model: SourceModel, layout: Layout, license_name: str | None) -> str:
    done = layout.conversion
    mean, std = ([round(value / 255, 6) for value in each] for each in (model.mean, model.std))
    assumed = ' (assumed: the checkpoint does not state it)' if model.assumed else ''
    feature = FEATURE_NAMES[model.feature]
    output = f'Its feature is the {feature}.'
    if model.classifier is not None:
        output = f'It classifies images into {len(model.classifier.classes)} classes by the {feature}.'
    lines = [
        f'{_cell(str(done.architecture)).capitalize()}, self-supervised. {output}',
        '',
        f'- images: {model.size[0]} x {model.size[1]} pixels, {done.architecture.in_channels} channels',
        f'- normalization: pixels in 0..1, mean {mean}, standard deviation {std}{assumed}',
        f'- checkpoint: `{_cell(model.path.name)}` (format `{done.format}`, {done.branch} encoder), SHA-256 '
        f'`{model.sha256}`',
        f'- tensors: {len(done.state)}, in the names of {_target_name(layout)}',
    ]
    if license_name is None:
        lines.append('- license: not stated by the person who uploaded it')
    return '\n'.join(lines)


def _target_name(layout: Layout) -> str:
    return {'timm': 'timm', 'transformers': 'transformers', OWN: 'mmpretrain'}[layout.library]


# ---------------------------------------------------------------- loading
def _loading(model: SourceModel, layout: Layout, name: str) -> list[str]:
    shape = f'[B, {layout.conversion.architecture.in_channels}, {model.size[0]}, {model.size[1]}]'
    images = f'images {shape}, normalized as above'
    libraries = {'timm': _with_timm, 'transformers': _with_transformers, OWN: lambda *_: []}[layout.library]
    lines = [
        '```python\nimport mmselfsup_graft\n\n'
        f"encoder = mmselfsup_graft.Encoder.from_pretrained('{name}')\n"
        'features = encoder(images)  # files, arrays or pixels in 0..255: [B, D]\n```'
    ]
    return [*libraries(model, name, images), 'With mmselfsup_graft, which normalizes the images itself:', *lines]


def _with_timm(model: SourceModel, name: str, images: str) -> list[str]:
    output = ('features', '[B, D]') if model.classifier is None else ('logits', '[B, C]')
    kind, field = ('AutoModel', 'pooler_output')
    if model.classifier is not None:
        kind, field = ('AutoModelForImageClassification', 'logits')
    return [
        f'With timm ({images}):',
        f"```python\nimport timm\n\nmodel = timm.create_model('hf-hub:{name}', pretrained=True).eval()\n"
        f'{output[0]} = model(images)  # {output[1]}\n```',
        'With transformers, which calls timm:',
        f"```python\nfrom transformers import {kind}\n\nmodel = {kind}.from_pretrained('{name}').eval()\n"
        f'{output[0]} = model(images).{field}  # {output[1]}\n```',
    ]


def _with_transformers(model: SourceModel, name: str, images: str) -> list[str]:
    kind, field, output = 'AutoModel', 'last_hidden_state[:, 0]', 'features'
    if model.classifier is not None:
        kind, field, output = 'AutoModelForImageClassification', 'logits', 'logits'
    return [
        f'With transformers ({images}):',
        f"```python\nfrom transformers import {kind}\n\nmodel = {kind}.from_pretrained('{name}').eval()\n"
        f'{output} = model(images).{field}\n```',
    ]


# ---------------------------------------------------------------- scores
def _scores(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return 'No result rows were given.'
    head = ['protocol', 'data', 'accuracy', 'feature', 'selected on', 'settings']
    table = [head, ['---'] * len(head), *(list(map(_cell, _row(row))) for row in rows)]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in table)


def _row(row: Mapping[str, Any]) -> list[str]:
    images = row.get('images') or {}
    counts = ', '.join(f'{count:,} {part}' for part, count in images.items() if isinstance(count, int))
    config = PurePath(str(row.get('config', ''))).stem
    block = f', block {row["block"]}' if row.get('block') else ''
    feature = FEATURE_NAMES.get(str(row.get('feature')), 'fine-tuned' if row.get('protocol') == 'finetune' else '')
    selection = row.get('selection')
    settings = {k: v for k, v in (row.get('settings') or {}).items() if v is not None and k not in _NOT_SETTINGS}
    return [
        str(row.get('protocol', '')),
        f'{config} ({counts})' if counts else config,
        _accuracy(row.get('result')),
        feature + block,
        _CHOSEN.get(str(selection), str(selection or 'nothing selected')),
        ', '.join(f'{key}={value}' for key, value in settings.items()),
    ]


def _accuracy(result: Any) -> str:
    """Accuracies in per cent: one, or a mean and deviation for each number of labels."""
    if not isinstance(result, Mapping):
        return ''
    if isinstance(result.get('accuracy'), int | float):
        return f'{result["accuracy"]:.2f} %'
    shots = {n: each for n, each in result.items() if isinstance(each, Mapping) and 'mean' in each}
    return ', '.join(f'{n} per class: {each["mean"]:.2f} ± {each.get("std", 0.0):.2f} %' for n, each in shots.items())


def _cell(text: str) -> str:
    """Text that cannot end a cell, a line or begin a tag."""
    return ' '.join(text.replace('|', '\\|').replace('<', '&lt;').replace('`', "'").split())
