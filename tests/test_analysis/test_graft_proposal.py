"""A cut is proposed where the conflict really rises, and not elsewhere."""

import numpy as np
import pytest

from mmselfsup_graft.analysis import propose_graft
from mmselfsup_graft.analysis.conflict.proposal import best_cut


def cosines(profile: list[float], batches: int = 40, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array(profile) + noise * rng.standard_normal((batches, len(profile)))


@pytest.mark.parametrize(
    ('depth', 'cut', 'rates'),
    [
        (6, 4, (0.1, 0.1, 1.0)),
        (12, 8, (0.1, 0.1, 1.0)),
        (12, 6, (0.1, 1.0)),
        (6, 5, (0.1,) * 5 + (1.0,)),
        (8, 2, (0.1, 1.0, 1.0, 1.0)),
    ],
)
def test_a_step_is_found_and_becomes_a_list_that_divides_the_depth(depth, cut, rates) -> None:
    proposal = propose_graft(cosines([0.1004] * cut + [-0.2] * (depth - cut), noise=0.001))
    assert proposal.graft_at == cut
    assert proposal.lr_layer_wise == pytest.approx(rates)
    assert depth % len(proposal.lr_layer_wise) == 0
    assert f'blocks 0-{cut - 1}: mean cosine +0.1' in proposal.reason
    assert 'oppose each other above' in proposal.reason


def test_rates_scale() -> None:
    proposal = propose_graft(cosines([0.3, 0.3, 0.0]), base_lr=1.5e-4, low_factor=0.2)
    assert proposal.lr_layer_wise == pytest.approx((3e-5, 3e-5, 1.5e-4))
    assert 'agree on average' in propose_graft(cosines([0.5, 0.5, 0.2], noise=0.01)).reason


@pytest.mark.parametrize('profile', [[0.0] * 6, [-0.2] * 3 + [0.1] * 3], ids=['flat', 'falling'])
@pytest.mark.parametrize('seed', range(5))
def test_no_rise_no_proposal(profile, seed) -> None:
    proposal = propose_graft(cosines(profile, seed=seed))
    assert proposal.graft_at is None
    assert proposal.lr_layer_wise is None
    assert proposal.reason.startswith('no proposal')


def test_best_cut_is_the_least_squares_one() -> None:
    assert best_cut(np.array([1.0, 1.0, 1.0, 0.0])) == 3
    assert best_cut(np.array([0.0, 5.0])) == 1
    profile = np.random.default_rng(0).standard_normal(9)
    residues = [np.sum((profile[:k] - profile[:k].mean()) ** 2) + np.sum((profile[k:] - profile[k:].mean()) ** 2)
                for k in range(1, 9)]  # fmt: skip
    assert best_cut(profile) == 1 + int(np.argmin(residues))


def test_too_little_gives_a_reason_instead() -> None:
    for measured in (cosines([0.1, 0.0], batches=5), cosines([0.1])):
        proposal = propose_graft(measured)
        assert proposal.graft_at is None
        assert 'it takes 2 blocks and 8 batches' in proposal.reason
    broken = cosines([0.1, 0.0], batches=20)
    broken[:15, 1] = np.nan
    assert 'and 5 batches' in propose_graft(broken).reason


def test_frozen_blocks_give_no_proposal() -> None:
    measured = cosines([0.2] * 8 + [-0.2] * 4)
    measured[:, :4] = np.nan  # as ConflictProfile.over_blocks gives what was never measured
    proposal = propose_graft(measured)
    assert proposal.graft_at is None
    assert 'blocks 0, 1, 2, 3 were frozen' in proposal.reason
