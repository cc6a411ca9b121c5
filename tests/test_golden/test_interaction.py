"""Interaction strength against the golden numbers of A2MIM's set."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from golden_sets import golden_file, golden_names, some
from helpers import assert_close, tensor
from torch import nn

from mmselfsup_graft.analysis.interaction.measure import (
    InteractionSettings,
    class_scores,
    coalitions,
    deltas_of_logits,
    interaction_strength,
    number_of_pairs,
)

METHOD = 'a2mim'


def files() -> list[str]:
    """Names of the golden files in the chosen set."""
    return golden_names('interaction', METHOD)


def orders(arrays: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Image and order (in per cent) of everything that was recorded."""
    matches = (re.fullmatch(r'logits_img(\d+)_r(\d+)', name) for name in arrays)
    return some([(int(match[1]), int(match[2])) for match in matches if match], 'logits')


def network(arrays: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """The recorded network; its layers are named in the settings, their weights are numbered like ours."""
    layers: list[nn.Module] = []
    for word in settings['net'].split():
        number = len(layers)
        if word.startswith('Conv'):
            width, channels, kernel, _ = arrays[f'sd.{number}.weight'].shape
            stride, padding = (re.search(rf'\b{key}(\d+)', word) for key in 'sp')
            layers.append(
                nn.Conv2d(
                    channels,
                    width,
                    kernel,
                    int(stride[1]) if stride else 1,
                    int(padding[1]) if padding else 0,
                    bias=f'sd.{number}.bias' in arrays,
                )
            )
        elif word.startswith('Linear'):
            bias = f'sd.{number}.bias' in arrays
            layers.append(nn.Linear(*arrays[f'sd.{number}.weight'].shape[::-1], bias=bias))
        else:
            layers.append(getattr(nn, word)())  # a layer without settings: GELU, Flatten
    model = nn.Sequential(*layers).double()
    model.load_state_dict({name.removeprefix('sd.'): tensor(v) for name, v in arrays.items() if name.startswith('sd.')})
    return model


@pytest.mark.parametrize('name', files())
def test_from_recorded_logits(name: str) -> None:
    arrays = golden_file(name, METHOD)
    settings = json.loads(str(arrays['config']))
    for image, order in orders(arrays):
        logits = tensor(arrays[f'logits_img{image}_r{order}'])
        found = deltas_of_logits(logits, int(arrays['labels'][image]), settings['reward'])
        assert_close(found, arrays[f'delta_img{image}_r{order}'], rtol=1e-3)


@pytest.mark.parametrize('name', files())
def test_strength_of_recorded_deltas(name: str) -> None:
    arrays = golden_file(name, METHOD)
    numbers = [round(100 * ratio) for ratio in arrays['ratios']]
    means = [
        [arrays[f'delta_img{image}_r{number}'].mean(axis=1) for number in numbers]
        for image in range(len(arrays['images']))
    ]
    assert_close(interaction_strength(np.array(means)).strength, arrays['J'], rtol=1e-5)


@pytest.mark.parametrize('name', files())
@pytest.mark.parametrize('batch_size', [7, 1000])
def test_from_the_images(name: str, batch_size: int) -> None:
    """Images, pairs and contexts through the network: masks, logits, deltas and J."""
    arrays = golden_file(name, METHOD)
    settings = json.loads(str(arrays['config']))
    grid = int(arrays['grid_size'])
    model, images = network(arrays, settings), tensor(arrays['images'])
    plan = InteractionSettings(
        grid,
        arrays['pairs'].shape[1],
        orders=tuple(arrays['ratios']),
        stride=settings['stride'],
        contexts=max(len(contexts[0]) for name, contexts in arrays.items() if name.startswith('context_')),
    )
    means = []
    for image, label in enumerate(some(arrays['labels'].tolist(), 'images')):
        rows = []
        for ratio, size in zip(arrays['ratios'], plan.context_sizes):
            key = f'img{image}_r{round(100 * ratio)}'
            contexts = arrays[f'context_{key}']
            assert contexts.shape[2] == size
            present = coalitions(arrays['pairs'][image], contexts, grid * grid)
            logits = class_scores(model, images[image], present, grid, batch_size)
            assert_close(logits, arrays[f'logits_{key}'], rtol=1e-5, name=key)
            deltas = deltas_of_logits(logits, label, settings['reward'])
            assert_close(deltas, arrays[f'delta_{key}'], rtol=1e-3, name=key)
            rows.append(deltas.mean(dim=1).numpy())
        means.append(rows)
    assert_close(interaction_strength(np.array(means)).strength, arrays['J'], rtol=1e-4)


@pytest.mark.parametrize('name', files())
def test_recorded_pairs_obey_our_rules(name: str) -> None:
    arrays = golden_file(name, METHOD)
    grid, stride = int(arrays['grid_size']), json.loads(str(arrays['config']))['stride']
    for pairs in some(arrays['pairs'], 'pairs'):
        assert len({frozenset(pair.tolist()) for pair in pairs}) == len(pairs) <= number_of_pairs(grid, stride)
        rows, columns = np.divmod(pairs, grid)
        assert max(np.abs(np.diff(rows)).max(), np.abs(np.diff(columns)).max()) <= stride
        assert (pairs[:, 0] != pairs[:, 1]).all()


def test_coalitions_are_in_the_recorded_order() -> None:
    present = coalitions(np.array([[5, 2]]), np.array([[[0, 7], [3, 4]]]), 9)
    players = [[present[0, c, k].nonzero().flatten().tolist() for k in range(4)] for c in (0, 1)]
    assert players == [[[0, 2, 5, 7], [0, 5, 7], [0, 2, 7], [0, 7]], [[2, 3, 4, 5], [3, 4, 5], [2, 3, 4], [3, 4]]]
    assert present.dtype == torch.bool
