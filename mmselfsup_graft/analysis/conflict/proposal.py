"""Graft proposal from a measured conflict profile: where to cut the encoder, and the learning rates.

Layer Grafted Pre-training (arXiv 2302.14138) cuts at two thirds of the depth because the objectives conflict more in
deeper layers. Here the cut is computed from the profile of the given model: the number of lower blocks for which two
constants, one below and one above, fit the mean cosines best. Whether the blocks above conflict more is tested
on batches that were not used to choose the cut.
"""

import math
from dataclasses import dataclass

import numpy as np

LEAST_BATCHES = 8


@dataclass(frozen=True)
class GraftProposal:
    """A proposal from a conflict profile.

    Attributes:
        graft_at: Blocks ``[0, graft_at)`` (and the stem) keep the weights of the objective that was trained first; None
            if the conflict does not increase with depth. The cosine is symmetric, so it does not show which objective
            that should be.
        lr_layer_wise: Value for ``paramwise_cfg.lr_layer_wise``; None together with ``graft_at``.
        reason: The reason as text.
    """

    graft_at: int | None
    lr_layer_wise: tuple[float, ...] | None
    reason: str


def best_cut(profile: np.ndarray) -> int:
    """Number of lower blocks, 1 to B - 1, for which two constants fit a profile [B] with the least squares."""
    cuts = range(1, len(profile))
    return min(cuts, key=lambda cut: cut * profile[:cut].var() + (len(profile) - cut) * profile[cut:].var())


def _fall(cosines: np.ndarray, cut: int) -> tuple[float, float]:
    """Mean decrease of the cosine from below to above the cut over batches [T, B], and its standard error."""
    falls = cosines[:, :cut].mean(axis=1) - cosines[:, cut:].mean(axis=1)
    return float(falls.mean()), float(falls.std(ddof=1) / math.sqrt(len(falls)))


def propose_graft(cosines: np.ndarray, base_lr: float = 1.0, low_factor: float = 0.1) -> GraftProposal:
    """Propose a cut and a learning-rate list.

    Args:
        cosines: [T, B] cosine of the two gradients per batch and block; batches with a NaN are left out.
        base_lr: Learning rate above the cut.
        low_factor: Factor of the rate below the cut, in [0, 1]; 0.1 in the published recipes.

    Returns:
        The proposal; without a cut if there are too few blocks or batches, or the conflict does not rise with depth.
    """
    frozen = np.flatnonzero(np.isnan(cosines).all(axis=0))
    if len(frozen):
        return _none(f'blocks {", ".join(map(str, frozen))} were frozen; measure a model that trains all of its blocks')
    cosines = cosines[~np.isnan(cosines).any(axis=1)]
    if cosines.shape[1] < 2 or len(cosines) < LEAST_BATCHES:
        return _none(
            f'it takes 2 blocks and {LEAST_BATCHES} batches with gradients in all of them, there are '
            f'{cosines.shape[1]} blocks and {len(cosines)} batches; measure more'
        )
    cut = best_cut(cosines.mean(axis=0))
    halves = cosines[::2], cosines[1::2]
    # the cut that one half of the batches chooses is tested on the other half
    tests = [_fall(other, best_cut(half.mean(axis=0))) for half, other in (halves, halves[::-1])]
    below, above = cosines[:, :cut], cosines[:, cut:]
    measured = (
        f'blocks 0-{cut - 1}: mean cosine {below.mean():+.3f}, {100 * (below < 0).mean():.0f} % negative; '
        f'blocks {cut}-{cosines.shape[1] - 1}: {above.mean():+.3f}, {100 * (above < 0).mean():.0f} % negative; '
        f'{len(cosines)} batches'
    )
    tested = ' and '.join(f'{fall:+.3f} ± {error:.3f}' for fall, error in tests)
    if any(fall <= 2 * error for fall, error in tests):
        return _none(
            f'the conflict does not increase significantly with depth (best cut: {measured}; cosine, tested on '
            f'the half of the batches that did not choose the cut: {tested} standard error)'
        )
    return GraftProposal(cut, _rates(cut, cosines.shape[1], base_lr, low_factor), _reason(measured, tested, above))


def _none(reason: str) -> GraftProposal:
    return GraftProposal(None, None, f'no proposal: {reason}')


def _rates(cut: int, num_blocks: int, base_lr: float, low_factor: float) -> tuple[float, ...]:
    """One value per group of blocks, as few equal groups as the cut allows."""
    size = math.gcd(cut, num_blocks)
    return (base_lr * low_factor,) * (cut // size) + (base_lr,) * ((num_blocks - cut) // size)


def _reason(measured: str, tested: str, above: np.ndarray) -> str:
    kind = 'the gradients oppose each other above' if above.mean() < 0 else 'even above the gradients agree on average'
    return (
        f'{measured}; the cosine falls at this cut (tested on the half of the batches that did not choose it: {tested} '
        f'standard error); {kind}. Below the cut the objectives can share, as the second '
        'does not undo the first, so keep its weights and train them slowly; above it train the second at full rate'
    )
