"""Loss of masked image modelling on pixels."""

import torch


def masked_l1(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of masked pixels (Xie et al., SimMIM, arXiv 2111.09886), in float32 at least.

    ``sum(|prediction - target| M) / ((sum(M) + 1e-5) C)``, sums over the whole batch.

    Over ranks: the local mean; with equally many masked pixels on every rank, averaging the ranks' values equals one
    process on the joined batch.

    Args:
        prediction: [B, C, H, W].
        target: [B, C, H, W], in the same units.
        mask: [B, 1, H, W], 1 = masked.

    Returns:
        Scalar; 0 if nothing is masked.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        half = prediction.dtype in (torch.float16, torch.bfloat16)
        difference = ((prediction.float() if half else prediction) - target).abs()
        mask = mask.to(difference.dtype)
        return (difference * mask).sum() / ((mask.sum() + 1e-5) * target.shape[1])
