"""What other libraries state about an encoder beside its tensors: an architecture's name, arguments, ``config.json``.

Hugging Face's and timm's hub write ``config.json`` (and ``preprocessor_config.json``) beside ``model.safetensors``;
training scripts write ``arch`` and ``args`` into the file. All of it is read as plain data.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmselfsup_graft.checkpoints.families import FAMILIES
from mmselfsup_graft.errors import CheckpointError

BESIDE = 'files_beside'
"""Key of ``meta`` where :func:`..reading.reader.read_checkpoint` puts the files beside a checkpoint."""

_CONFIG, _IMAGES = 'config.json', 'preprocessor_config.json'

# differences that no tensor shows and that no backbone of this toolbox has: words -> pattern of an architecture's name.
_ANTI_ALIASED, _ROTARY = 'anti-aliased pooling', 'rotary positions'
_VARIANTS = {
    _ANTI_ALIASED: r'resne(t|xt)(aa|blur)',
    _ROTARY: r'(?<![a-z0-9])(rope|dinov3|lingbot|vit.pe.(core|lang|spatial)'
    r'|eva02(?!.(e|enormous)(?![a-z0-9])))(?![a-z0-9])',  # the largest EVA-02 has none
}
# the same as arguments of timm's classes
_VARIANT_ARGUMENTS = {
    'aa_layer': _ANTI_ALIASED,
    'use_rot_pos_emb': _ROTARY,
    'rope_type': _ROTARY,
}
_ACTIVATIONS = {
    'gelu': 'gelu',
    'gelu_python': 'gelu',
    'quickgelu': 'quick_gelu',
    'quick_gelu': 'quick_gelu',
    'gelu_tanh': 'gelu_tanh',
    'gelu_new': 'gelu_tanh',
    'gelu_pytorch_tanh': 'gelu_tanh',
    'swish': 'silu',
}


def activation_name(value: Any) -> str | None:
    """One spelling for an activation that libraries name ``GELU``, ``gelu``, ``quick_gelu``, ``QuickGELU``, ..."""
    if not isinstance(value, str) or not value:
        return None
    return _ACTIVATIONS.get(value.lower(), value.lower())


def files_beside(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Content of a file beside the checkpoint, such as ``config.json``; empty if there is none."""
    return mapping_in(mapping_in(mapping_in(content, 'meta'), BESIDE), name)


def stated_values(content: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """Values for the fields of :class:`.traits.Traits`, not yet checked, each with its file and key for messages.

    A field that is not stated is left out, as are lists with one value per stage.
    """
    images = files_beside(content, _IMAGES)
    config = files_beside(content, _CONFIG)
    nested = isinstance(config.get('pretrained_cfg'), Mapping)  # of timm
    sources = [(images, _IMAGES, 'image_')] if images.get('do_normalize', True) else []
    sources.append((config['pretrained_cfg'] if nested else config, _CONFIG + nested * ': pretrained_cfg', ''))
    found = {
        'num_heads': _stated(config, 'num_attention_heads'),
        'norm_eps': _stated(config, 'layer_norm_eps'),
        'act': (_activation(content), 'the activation'),
        'mean': _channels(sources, 'mean'),
        'std': _channels(sources, 'std'),
        **{field: (value, f'{_CONFIG}: image_size and patch_size') for field, value in _grid(config).items()},
    }
    return {field: stated for field, stated in found.items() if stated[0] is not None}


def _stated(config: Mapping[str, Any], key: str) -> tuple[Any, str]:
    value = config.get(key)
    return None if isinstance(value, list) else value, f'{_CONFIG}: {key}'


def _channels(sources: Sequence[tuple[Mapping[str, Any], str, str]], name: str) -> tuple[list[float] | None, str]:
    """The first value per channel that is stated, in 0..255, and its place."""
    for told, place, prefix in sources:
        if told.get(prefix + name):
            return _in_pixels(told[prefix + name]), f'255 * {prefix}{name} of {place}'
    return None, ''


def _activation(content: Mapping[str, Any]) -> str | None:
    for told in _arguments(content):
        found = activation_name(told.get('hidden_act')) or activation_name(told.get('act_layer'))
        if found is not None:
            return found
    return 'quick_gelu' if any('quickgelu' in name for name in _names(content)) else None


def _grid(config: Mapping[str, Any]) -> dict[str, Any]:
    size, patch = (pair_of(config.get(key)) for key in ('image_size', 'patch_size'))
    if size is None or patch is None or min(patch) < 1 or size[0] < patch[0] or size[1] < patch[1]:
        return {}
    return {'img_size': size, 'grid': (size[0] // patch[0], size[1] // patch[1])}


def pair_of(value: Any) -> tuple[int, int] | None:
    """A pair of whole numbers, also from one for both; None for anything else."""
    pair = (value, value) if type(value) is int else value
    if isinstance(pair, list | tuple) and len(pair) == 2 and all(type(v) is int for v in pair):
        return pair[0], pair[1]
    return None


def _in_pixels(value: Any) -> list[float] | None:
    """Per channel in 0..255, from 0..1."""
    if not isinstance(value, list | tuple) or not all(isinstance(v, int | float) for v in value):
        return None
    return [255 * v for v in value]


# ---------------------------------------------------------------- architectures
def refuse_variants(content: Mapping[str, Any], origin: str) -> None:
    """Raise an error for an encoder whose file states a difference that no backbone of this toolbox has.

    Raises:
        CheckpointError: In that case.
    """
    for name in _names(content):
        for words in _variants_by_name(name):
            raise _variant(origin, words, f'architecture {name}')
    for arguments in _arguments(content):
        for key, words in _VARIANT_ARGUMENTS.items():
            if arguments.get(key) not in (None, False, ''):
                raise _variant(origin, words, f'{key}={arguments[key]}')


def _variants_by_name(name: str) -> list[str]:
    """What the lower-case name of an architecture or a file tells, in words; only ViTs have rotary positions."""
    # names of timm's models may be of any family
    others = [each.name for each in FAMILIES.values() if not each.is_vit and each.name != 'timm']
    is_vit = not any(other in name for other in others)
    return [words for words, pattern in _VARIANTS.items() if (is_vit or words != _ROTARY) and re.search(pattern, name)]


def _variant(origin: str, words: str, told: str) -> CheckpointError:
    return CheckpointError(
        f'{origin} holds an encoder with {words} ({told}), which no backbone of this toolbox has and no tensor shows: '
        'its features would differ. Use another encoder; a file with its tensors alone is taken as it is'
    )


def suggested_variant(file_name: str) -> str:
    """What the name of a file suggests about its encoder, in words; empty if nothing."""
    stem = file_name.lower()
    found = _variants_by_name(stem)
    found += ['QuickGELU'] if 'quickgelu' in stem else []
    found += ['strides in the 1 x 1 convolutions'] if 'caffe' in stem else []
    return ', '.join(found)


def _names(content: Mapping[str, Any]) -> Iterator[str]:
    """Names of architectures that a file states, in lower case."""
    config = files_beside(content, _CONFIG)
    args = mapping_in(content, 'args')
    for value in (config.get('architecture'), content.get('arch'), args.get('arch'), args.get('model')):
        if isinstance(value, str):
            yield value.lower()


def _arguments(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Arguments of a model that a file states."""
    config, args = files_beside(content, _CONFIG), mapping_in(content, 'args')
    yield from (config, mapping_in(config, 'model_args'), args, mapping_in(args, 'model_kwargs'))


def mapping_in(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under a key; empty if there is none."""
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}
