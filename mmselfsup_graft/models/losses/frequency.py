"""Losses in the frequency domain of images: A2MIM's Fourier term, for float32 at least and outside autocast."""

import torch

from .pixels import regression_error


def focal_frequency_loss(
    difference: torch.Tensor,
    alpha: float = 1.0,
    average_spectrum: bool = False,
    log_matrix: bool = False,
    batch_matrix: bool = False,
    matrix: torch.Tensor | None = None,
) -> torch.Tensor:
    """Focal frequency loss: the difference's squared spectrum, weighted by itself (Jiang et al., arXiv 2012.12821).

    ``mean(w |D|^2)`` with ``D = F(prediction - target)``, orthonormal, and the constant ``w = |D|^alpha``, divided by
    its maximum, NaN set to 0 and cut to [0, 1]. A2MIM has all three switches on.

    Over ranks: local; with ``average_spectrum`` the loss is not a mean over images, so that ranks averaged are not one
    process on the joined batch.

    Args:
        difference: [B, C, H, W] prediction minus target; the transform is linear.
        alpha: Exponent of the weight.
        average_spectrum: Transform the mean image of the batch: errors of different images cancel.
        log_matrix: Take ``log(w + 1)`` before the division.
        batch_matrix: Divide by the maximum over everything, else over each image and channel.
        matrix: Given weights in [0, 1] instead of w, broadcastable to [B, C, H, W] (B = 1 for a mean image).

    Returns:
        Scalar; 0 for no difference.
    """
    if average_spectrum:
        difference = difference.mean(0, keepdim=True)  # [1, C, H, W]
    spectrum = torch.fft.fft2(difference, norm='ortho')
    squared = spectrum.real.square() + spectrum.imag.square()
    weight = _own_weight(squared.detach(), alpha, log_matrix, batch_matrix) if matrix is None else matrix.detach()
    return (weight * squared).mean()


def _own_weight(squared: torch.Tensor, alpha: float, log_matrix: bool, batch_matrix: bool) -> torch.Tensor:
    weight = squared.sqrt() ** alpha
    if log_matrix:
        weight = torch.log(weight + 1.0)
    weight = weight / (weight.max() if batch_matrix else weight.amax((-2, -1), keepdim=True))
    return weight.nan_to_num(0.0).clamp(0.0, 1.0)  # 0 / 0 where nothing differs


def fourier_error(difference: torch.Tensor, reweight: bool = False, **error: float | str | bool) -> torch.Tensor:
    """Mean error of the difference's spectrum, each frequency's modulus taken for the difference.

    ``mean(e)`` with ``e = rho(F(prediction - target))``, or ``mean(sg(e) e)``.

    Over ranks: the local mean over images; averaging the ranks' values equals one process on the joined batch.

    Args:
        difference: [B, C, H, W] prediction minus target.
        reweight: Weigh every frequency by its own error, held constant.
        **error: Of :func:`regression_error`.

    Returns:
        Scalar.
    """
    values = regression_error(torch.fft.fft2(difference, norm='ortho'), **error)  # type: ignore[arg-type]
    return (values.detach() * values if reweight else values).mean()
