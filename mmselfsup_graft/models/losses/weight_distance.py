"""Distance of an encoder to the weights it was grafted from."""

from collections.abc import Iterable

import torch


def l1_weight_distance(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Sum of absolute differences to the reference (Layer Grafted Pre-training's ViT-L recipe), in float32 at least.

    Over ranks: a function of the weights alone, the same everywhere.

    Args:
        pairs: (current, reference) tensors of equal shapes; at least one pair.

    Returns:
        Scalar, not a mean: sum over all entries of all pairs.
    """
    terms = [(now.float() if now.dtype in (torch.float16, torch.bfloat16) else now) - then for now, then in pairs]
    return torch.stack([term.abs().sum() for term in terms]).sum()
