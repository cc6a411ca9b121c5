"""A2MIM (Li et al., arXiv 2205.13943): filled images, a token inside, losses in space and in frequency."""

from typing import Any

import torch

from . import simmim


def focal_frequency(difference: torch.Tensor) -> torch.Tensor:
    """Focal frequency loss of the batch's mean difference; weights are logarithms, divided by their maximum."""
    spectrum = torch.fft.fft2(difference.mean(0), norm='ortho')
    distance = spectrum.real**2 + spectrum.imag**2
    weight = (distance.detach().sqrt() + 1).log()
    weight = (weight / weight.max()).nan_to_num(0.0).clamp(0, 1)
    return (weight * distance).mean()


def losses(
    model: Any, images: torch.Tensor, mask: torch.Tensor | None = None, layer: int = 2
) -> dict[str, torch.Tensor]:
    """``loss_spatial`` in L1, and ``loss_fourier`` with ``mixed`` for visible pixels; the token acts at ``layer``."""
    mask, head = simmim.draw(model, images) if mask is None else mask, model.head
    m = simmim.enlarge(mask, images.shape[-1])[:, None]
    filled = images * (1 - m) + images.mean((2, 3), keepdim=True) * m
    prediction = simmim.to_pixels(model.neck, simmim.features(model.backbone, filled, mask, layer))
    with torch.autocast(images.device.type, enabled=False):
        prediction = prediction.to(images.dtype)
        weight = m + (1 - m) * head.unmask_weight
        error = (prediction - images).abs() * weight
        found = {'loss_spatial': error.sum() / ((weight.sum() + 1e-5) * images.shape[1])}
        if head.fft_weight:
            share = m + (1 - m) * head.fft_unmask_weight
            picture = prediction * share + (prediction.detach() + images) / 2 * (1 - share)
            found['loss_fourier'] = head.fft_weight * focal_frequency(picture - images)
    return found
