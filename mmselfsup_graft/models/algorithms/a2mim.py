"""A2MIM: masked image modeling that suits convolutional networks and transformers alike."""

from typing import Any

import torch

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.masking import expand_mask, fill_with_mean
from mmselfsup_graft.registry import MODELS

from .simmim import SimMIM


@MODELS.register_module()
class A2MIM(SimMIM):
    """Architecture-agnostic masked image modeling (Li et al., arXiv 2205.13943).

    Masked blocks M of the input x are filled with the image's mean color, so that neither edges nor statistics reveal
    them. A token is added to the masked features at some depth of the encoder f. The reconstruction is compared with
    the unfilled image in space and in frequency (:class:`A2MIMHead`), F the Fourier transform::

        y = g(f(fill(x, M), M))
        loss = L_space(y, x, M) + fft_weight * L_frequency(F(y), F(x))

    Differs from the released code, which fills images in loader processes: here batches are filled on the device, with
    masks drawn as in :class:`SimMIM`.

    Args:
        fill: ``mean``: masked pixels take the mean color of their own normalized image, masked pixels counted; None
            leaves the image as it is, as SimMIM does.
        residual: Predict the difference to the mean color of the target (off in all released recipes).
        **kwargs: See :class:`SimMIM`.

    Raises:
        ConfigError: If the fill is unknown; see also :class:`SimMIM`.
    """

    def __init__(self, fill: str | None = 'mean', residual: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if fill not in ('mean', None):
            raise ConfigError(f"A2MIM: fill is {fill!r}; choose 'mean' or None")
        self.fill, self.residual = fill, residual

    def forward_masked(
        self, inputs: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict images from filled ones; arguments and results as in :meth:`SimMIM.forward_masked`."""
        mask = self.draw_mask(inputs) if mask is None else mask  # [B, h, w]
        pixels = expand_mask(mask, (inputs.shape[2], inputs.shape[3]))  # [B, 1, H, W]
        filled = fill_with_mean(inputs, pixels) if self.fill else inputs  # [B, C, H, W]
        prediction, mask = super().forward_masked(filled, mask)  # [B, C, H, W]
        return (prediction + inputs.mean((2, 3), keepdim=True) if self.residual else prediction), mask
