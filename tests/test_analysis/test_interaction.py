"""Interactions of models whose interactions are known; sampling, settings, and no trace in the model."""

import itertools

import numpy as np
import pytest
import torch
from helpers import assert_close
from torch import nn

from mmselfsup_graft.analysis import InteractionSettings, interaction_strength, measure_interactions
from mmselfsup_graft.analysis.interaction.measure import (
    ORDERS,
    check_image_size,
    class_scores,
    deltas_of_logits,
    masked_images,
    number_of_pairs,
    sample_contexts,
    sample_pairs,
)
from mmselfsup_graft.errors import ConfigError, DataError

GRID, SIDE = 4, 8
PLAN = InteractionSettings(GRID, pairs=6, contexts=3, orders=(0.0, 0.3, 0.7, 1.0), reward='yi')


class Patches(nn.Module):
    """Scores [B, 2] from the sums of patches; the second class has score 0."""

    def __init__(self, score) -> None:
        super().__init__()
        self.score = score
        self.anchor = nn.Parameter(torch.zeros((), dtype=torch.float64))  # has a device
        self.dropout = nn.Dropout(0.5)  # acts in train mode only

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sums = x.unfold(2, SIDE // GRID, SIDE // GRID).unfold(3, SIDE // GRID, SIDE // GRID).sum((1, 4, 5)).flatten(1)
        score = self.dropout(self.score(sums))
        return torch.stack([score, torch.zeros_like(score)], dim=1)


def images(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(count, 2, SIDE, SIDE, generator=generator, dtype=torch.float64))


def measure(model: nn.Module, plan: InteractionSettings = PLAN, batch_size: int = 256) -> np.ndarray:
    return measure_interactions(model, images(), [0, 0, 0], [4, 17, 2], plan, batch_size)


# ---------------------------------------------------------------- known games
def test_a_sum_over_patches_has_no_interaction() -> None:
    found = measure(Patches(lambda sums: sums @ torch.arange(16).double() + 3))
    assert found.shape == (3, 4, 6)
    assert_close(found, np.zeros(found.shape), atol=1e-10)
    with pytest.raises(DataError, match='no two patches interact'):
        interaction_strength(np.zeros((2, 3, 4)))


def test_a_product_of_two_patches() -> None:
    """``v = s_a s_b``: their pair interacts by just that product in every order, no other pair does."""
    for index, image in zip([4, 17, 2], images()):
        pairs = sample_pairs(index, GRID, 6, 2)
        a, b = (int(patch) for patch in pairs[2])
        model = Patches(lambda sums: sums[:, a] * sums[:, b])  # noqa: B023
        found = measure_interactions(model, [image], [0], [index], PLAN)[0]
        parts = image.view(2, GRID, 2, GRID, 2).sum((0, 2, 4)).flatten()
        expected = np.zeros((4, 6))
        expected[:, 2] = float(parts[a] * parts[b])
        assert_close(found, expected, rtol=1e-10)


def test_a_product_of_all_patches_interacts_in_the_highest_order_alone() -> None:
    found = interaction_strength(measure(Patches(lambda sums: sums.prod(dim=1))))
    assert_close(found.strength, [0, 0, 0, 4])


def test_the_mean_over_contexts_comes_before_the_absolute_value() -> None:
    """``v = s_i s_j g(others)`` by brute force over the very contexts."""
    model, plan = Patches(lambda sums: torch.sin(sums).cumsum(1).prod(dim=1)), PLAN
    found = measure(model)
    for number, (index, image) in enumerate(zip([4, 17, 2], images())):
        pairs = sample_pairs(index, GRID, plan.pairs, plan.stride, plan.seed)
        for row, size in enumerate(plan.context_sizes):
            count = plan.contexts_of(size)
            contexts = sample_contexts(index, pairs, 16, size, count, plan.seed)
            for place, (i, j) in enumerate(pairs.tolist()):
                total = 0.0
                for context in contexts[place].tolist():
                    for extra, sign in (((i, j), 1), ((i,), -1), ((j,), -1), ((), 1)):
                        seen = torch.zeros(GRID, GRID, dtype=torch.float64)
                        seen.view(-1)[[*context, *extra]] = 1
                        masked = image * seen.repeat_interleave(2, 0).repeat_interleave(2, 1)
                        total += sign * float(model.eval()(masked[None])[0, 0]) / count
                assert found[number, row, place] == pytest.approx(total, abs=1e-9)
    strength = interaction_strength(found)
    per_image = np.abs(found).mean(2)
    assert_close(strength.mean_absolute, per_image.mean(0))
    assert strength.strength.mean() == pytest.approx(1)
    spread = per_image.std(0, ddof=1) / np.sqrt(3) / per_image.mean()
    assert_close(strength.standard_error, spread)
    assert np.isnan(interaction_strength(found[:1]).standard_error).all()


def test_the_only_context_of_an_order_is_taken_once() -> None:
    few = InteractionSettings(GRID, pairs=6, contexts=9, orders=(0.0, 1.0), reward='yi')
    model = Patches(lambda sums: sums.tanh().sum(1).sin())
    assert_close(measure(model, few), measure(model)[:, [0, 3]])
    assert (few.passes, PLAN.passes) == (4 * 6 * 2, 4 * 6 * 8)


# ---------------------------------------------------------------- rewards and masks
@pytest.mark.parametrize('reward', ['modified', 'normal', 'yi'])
def test_rewards_against_probabilities(reward: str) -> None:
    logits = torch.randn(5, 4, 7, dtype=torch.float64)
    p = logits.softmax(-1)[..., 3]
    value = {'modified': (p / (1 - p)).log(), 'normal': p.log(), 'yi': logits[..., 3]}[reward]
    expected = value[:, 0] - value[:, 1] - value[:, 2] + value[:, 3]
    assert_close(deltas_of_logits(logits, 3, reward), expected, atol=1e-12)


def test_sure_classifiers_stay_finite() -> None:
    logits = torch.tensor([[[900.0, 0.0], [-900.0, 0.0], [0.0, 0.0], [0.0, 900.0]]])
    assert_close(deltas_of_logits(logits, 0), [900 + 900 - 900])


@pytest.mark.parametrize(('label', 'classes'), [(3, 3), (-1, 3), (0, 1)])
def test_a_label_without_class_is_refused(label: int, classes: int) -> None:
    with pytest.raises(DataError, match=f'label {label}, but the classifier has {classes} classes'):
        deltas_of_logits(torch.zeros(1, 4, classes), label)


def test_masks_cover_whole_patches() -> None:
    image = torch.randn(3, 6, 4)
    present = torch.tensor([[True, False, False, True], [False] * 4])
    first, second = masked_images(image, present, 2)
    assert torch.equal(first[:, :3, :2], image[:, :3, :2])
    assert torch.equal(first[:, 3:, 2:], image[:, 3:, 2:])
    assert not first[:, :3, 2:].any()
    assert not first[:, 3:, :2].any()
    assert not second.any()


def test_batch_sizes_and_modes_make_no_difference_and_leave_no_trace() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.Dropout(0.5), nn.Flatten())
    model.append(nn.Linear(4 * SIDE * SIDE, 3)).double()
    model[1].eval()  # a part with a mode of its own
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = InteractionSettings(GRID, pairs=4, contexts=3, orders=(0.0, 0.5, 1.0))
    found = [measure(model, plan, size) for size in (5, 256)]
    assert_close(found[0], found[1], rtol=1e-9)
    assert [part.training for part in model] == [True, False, True, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()


# ---------------------------------------------------------------- sampling
def test_pairs() -> None:
    drawn = sample_pairs(3, 5, 60, 2)
    assert drawn.shape == (60, 2)
    assert len({frozenset(pair) for pair in drawn.tolist()}) == 60
    rows, columns = np.divmod(drawn, 5)
    assert set(np.maximum(np.abs(np.diff(rows)), np.abs(np.diff(columns))).flatten()) == {1, 2}
    np.testing.assert_array_equal(drawn, sample_pairs(3, 5, 60, 2))
    np.testing.assert_array_equal(drawn[:7], sample_pairs(3, 5, 7, 2))  # more pairs keep the first ones
    np.testing.assert_array_equal(sample_pairs(1, 5, 9, 2, seed=1000), sample_pairs(2, 5, 9, 2, seed=0))
    assert not np.array_equal(drawn, sample_pairs(4, 5, 60, 2))
    assert sample_pairs(10**9, 5, 3, 2).shape == (3, 2)  # beyond the seeds of the generator


@pytest.mark.parametrize(('grid', 'stride'), [(2, 1), (3, 1), (4, 2), (3, 5)])
def test_all_pairs_can_be_drawn(grid: int, stride: int) -> None:
    cells = list(itertools.product(range(grid), repeat=2))
    near = [(a, b) for a, b in itertools.combinations(cells, 2) if max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= stride]
    assert number_of_pairs(grid, stride) == len(near)
    assert len(sample_pairs(0, grid, len(near), stride)) == len(near)


def test_contexts() -> None:
    pairs = sample_pairs(3, 4, 5, 2)
    drawn = sample_contexts(3, pairs, 16, 6, 200)
    assert drawn.shape == (5, 200, 6)
    for pair, contexts in zip(pairs.tolist(), drawn):
        assert all(len(set(context)) == 6 for context in contexts.tolist())
        counts = np.bincount(contexts.flatten(), minlength=16)
        assert counts[pair].sum() == 0
        assert (np.abs(np.delete(counts, pair) - 200 * 6 / 14) < 40).all()  # 4 standard deviations
    assert sample_contexts(3, pairs, 16, 0, 4).shape == (5, 4, 0)
    whole = sample_contexts(3, pairs, 16, 14, 1)
    assert [sorted([*context[0], *pair]) for context, pair in zip(whole.tolist(), pairs.tolist())] == [[*range(16)]] * 5
    assert not np.array_equal(drawn[..., :6], sample_contexts(3, pairs, 16, 7, 200)[..., :6])


# ---------------------------------------------------------------- settings
def test_sizes_of_contexts() -> None:
    assert InteractionSettings(14).context_sizes == [0, 9, 19, 38, 58, 77, 97, 116, 135, 155, 174, 184, 194]
    assert InteractionSettings(14).orders == ORDERS
    # 22 * 0.5 and the like must not fall below a whole number by rounding
    assert InteractionSettings(7, orders=(0.2 + 0.1,) * 1).context_sizes == [14]
    assert InteractionSettings(14).passes == 4 * 50 * (11 * 50 + 2)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(grid=1), 'grid must be at least 2'),
        (dict(pairs=0), 'pairs must be at least 1'),
        (dict(contexts=0), 'contexts must be at least 1'),
        (dict(stride=0), 'stride must be at least 1'),
        (dict(seed=-1), 'seed must be at least 0'),
        (dict(reward='p'), "reward is 'p', expected one of modified, normal, yi"),
        (dict(grid=3, stride=1, pairs=21), '21 pairs do not exist: a grid of 3x3 patches has 20 pairs at most 1 apart'),
        (dict(orders=()), 'orders are shares'),
        (dict(orders=(0.5, 1.1)), 'from 0 to 1'),
        (dict(orders=(float('nan'),)), 'from 0 to 1'),
        (dict(grid=4), r'the orders 0 and 0\.05 are the same, 0 of 14 other patches'),
    ],
)
def test_impossible_settings(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InteractionSettings(**options)


def test_a_grid_must_divide_the_image() -> None:
    with pytest.raises(ConfigError, match=r'16x16 patches does not divide images of 28x28 .* 2, 4, 7, 14, 28'):
        check_image_size(28, 28, 16)
    with pytest.raises(ConfigError, match='3x3 patches does not divide'):
        class_scores(nn.Flatten(), torch.zeros(1, 8, 8), torch.ones(1, 9, dtype=torch.bool), 3)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match='a score is not a number'):
        interaction_strength(np.full((1, 2, 2), np.nan))
