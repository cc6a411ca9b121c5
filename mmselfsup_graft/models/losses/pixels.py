"""Losses of masked image modeling on pixels."""

import torch

ERROR_MODES = ('l1', 'mse', 'focal_l1', 'focal_mse')


def regression_error(
    difference: torch.Tensor,
    mode: str = 'l1',
    alpha: float = 0.2,
    gamma: float = 1.0,
    activate: str = 'sigmoid',
    residual: bool = False,
) -> torch.Tensor:
    """Error of every value, of A2MIM's regression losses (Li et al., arXiv 2205.13943).

    ``l1``: ``|d|``; ``mse``: ``|d|^2``; ``focal_l1`` and ``focal_mse``: that times ``phi^gamma``, where
    ``phi = 2 sigmoid(alpha |d|) - 1`` or ``tanh(alpha |d|)`` weighs large errors more.

    Args:
        difference: d, real or complex (then ``|d|`` is its modulus), of any shape.
        mode: One of :data:`ERROR_MODES`.
        alpha: Of the focal modes.
        gamma: Likewise.
        activate: ``sigmoid`` or ``tanh``, likewise.
        residual: Add the unweighted error to the focal one.

    Returns:
        Real and of the shape of ``difference``.
    """
    distance = difference.abs()
    error = distance if mode.endswith('l1') else distance.square()
    if not mode.startswith('focal'):
        return error
    phi = torch.tanh(alpha * distance) if activate == 'tanh' else 2 * torch.sigmoid(alpha * distance) - 1
    focal = error * phi**gamma
    return focal + error if residual else focal


def masked_mean(error: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``sum(error W) / ((sum(W) + 1e-5) C)``, sums over the whole batch (Xie et al., SimMIM, arXiv 2111.09886).

    Over ranks: the local mean; where ``sum(W)`` is the same on every rank, averaging the ranks' values equals one
    process on the joined batch.

    Args:
        error: [B, C, H, W].
        weight: [B, 1, H, W].

    Returns:
        Scalar; 0 if nothing has weight.
    """
    weight = weight.to(error.dtype)
    return (error * weight).sum() / ((weight.sum() + 1e-5) * error.shape[1])


def masked_l1(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of masked pixels, SimMIM's loss, in float32 at least; see :func:`masked_mean`.

    Args:
        prediction: [B, C, H, W].
        target: [B, C, H, W], in the same units.
        mask: [B, 1, H, W], 1 = masked.

    Returns:
        Scalar; 0 if nothing is masked.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        return masked_mean(regression_error(at_least_float32(prediction) - target), mask)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Convert half precision to float32, leave other types unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
