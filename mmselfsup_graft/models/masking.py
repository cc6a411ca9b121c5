"""Random masking of patch tokens."""

from typing import NamedTuple

import torch


class PatchMask(NamedTuple):
    """Which patches are kept.

    Attributes:
        keep: [B, K] indices of the kept patches, in shuffled order.
        restore: [B, L] position of every patch in the order "kept, then dropped".
        mask: [B, L] 0 where a patch is kept, 1 where it is hidden.
    """

    keep: torch.Tensor
    restore: torch.Tensor
    mask: torch.Tensor


def mask_from_noise(noise: torch.Tensor, mask_ratio: float) -> PatchMask:
    """Keep the ``int(L * (1 - mask_ratio))`` patches with the smallest noise (He et al., MAE, arXiv 2111.06377).

    Args:
        noise: [B, L] uniform noise.
        mask_ratio: Share of patches to hide, in [0, 1).
    """
    num_keep = int(noise.shape[1] * (1 - mask_ratio))
    shuffle = noise.argsort(dim=1)
    restore = shuffle.argsort(dim=1)
    mask = (restore >= num_keep).to(noise.dtype)
    return PatchMask(shuffle[:, :num_keep], restore, mask)
