"""The printed instructions after a training work as they are printed."""

import shlex

import pytest
import torch
from helpers import build, mae_config, vit_config
from mmpretrain.registry import MODELS
from test_tools.tiny_runs import call_tool

from mmselfsup_graft.export.after_training import next_steps


def blocks(text: str) -> dict[str, list[str]]:
    """Library -> lines below its name."""
    parts = [part.splitlines() for part in text.split('\n\n')[1:]]
    return {part[0].rstrip(':'): [line.removeprefix('    ') for line in part[1:]] for part in parts}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A small MAE, saved as a training saves it."""
    torch.manual_seed(0)
    model = build(mae_config(vit_config(in_channels=3)))
    path = tmp_path_factory.mktemp('trained') / 'epoch_1.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {'encoder': {'num_heads': 4}}}, path)
    return model, path


@pytest.mark.parametrize('library', ['timm', 'Hugging Face', 'mmdet'])
def test_the_lines_work_as_printed(library, trained, monkeypatch):
    model, path = trained
    found = blocks(next_steps(path, 'graft convert'))
    convert, *code = found[library]
    assert convert.startswith('graft convert ')
    done = call_tool('model_converters/convert', *shlex.split(convert)[2:], '--overwrite')
    assert done.code == 0, done.err
    space: dict = {}
    if library == 'mmdet':
        exec('\n'.join(code), space)
        built = MODELS.build(space['backbone'])
        built.init_weights()
        weight = built.patch_embed.projection.weight
    else:
        exec('\n'.join(code), space)
        state = space['model'].state_dict()
        weight = state[
            'patch_embed.proj.weight' if library == 'timm' else 'embeddings.patch_embeddings.projection.weight'
        ]
    assert torch.equal(weight, model.backbone.patch_embed.projection.weight)


def test_a_file_without_a_known_encoder_has_no_next_steps(tmp_path):
    torch.save({'state_dict': {'a': torch.zeros(2)}}, tmp_path / 'a.pth')
    assert next_steps(tmp_path / 'a.pth') is None
