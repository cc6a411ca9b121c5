"""Spatial and Fourier loss of A2MIM."""

import torch
from mmengine.model import BaseModule

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.losses import (
    ERROR_MODES,
    at_least_float32,
    focal_frequency_loss,
    fourier_error,
    masked_mean,
    regression_error,
)
from mmselfsup_graft.registry import MODELS

from .simmim_head import pixel_mask

_REPLACEMENTS = ('target', 'prediction', 'mean', 'mixed')


@MODELS.register_module()
class A2MIMHead(BaseModule):
    """Compare reconstructed and original images in space and in frequency (Li et al., A2MIM, arXiv 2205.13943).

    In space, ``rho(r - x)`` averaged over pixels, masked ones with weight 1 and visible ones with ``unmask_weight``.
    In frequency, ``fft_weight`` times a loss of the spectra of x and of a picture that is r where masked and
    ``w r + (1 - w) R`` where visible, ``w = fft_unmask_weight``, with something else R in place of the visible part.

    Differs from the released code in that everything is computed in float32 at least, squared errors work in frequency
    too, and settings that would crash there are refused.

    Args:
        mode: rho, see :func:`mmselfsup_graft.models.losses.regression_error`.
        alpha: Of a focal rho, greater than 0.
        gamma: Likewise, at least 1.
        activate: ``sigmoid`` or ``tanh``, likewise.
        residual: Add the unweighted error, likewise.
        unmask_weight: Weight of visible pixels in space, in [0, 1].
        fft_weight: Weight of the loss in frequency; 0 leaves it out, as the released ConvNeXt recipes do.
        fft_focal: Focal frequency loss of the batch's mean residual; otherwise rho of the spectrum.
        fft_unmask_weight: Weight of the prediction of visible pixels in frequency, in [0, 1].
        fft_unmask_replace: What stands there for the rest: the ``target``, the ``prediction`` (held constant), the
            ``mean`` color of the target, or ``mixed``, half target and half constant prediction. None: ``target``.
        fft_reweight: Without ``fft_focal``: weigh every frequency by its own error.

    Raises:
        ConfigError: For unknown names or weights out of range.
    """

    def __init__(
        self,
        mode: str = 'l1',
        alpha: float = 0.2,
        gamma: float = 1.0,
        activate: str = 'sigmoid',
        residual: bool = False,
        unmask_weight: float = 0.0,
        fft_weight: float = 0.0,
        fft_focal: bool = True,
        fft_unmask_weight: float = 0.0,
        fft_unmask_replace: str | None = 'mixed',
        fft_reweight: bool = False,
    ) -> None:
        super().__init__()
        _one_of('mode', mode, ERROR_MODES)
        _one_of('activate', activate, ('sigmoid', 'tanh'))
        _one_of('fft_unmask_replace', fft_unmask_replace, (*_REPLACEMENTS, None))
        if not (0 <= unmask_weight <= 1 and 0 <= fft_unmask_weight <= 1 and fft_weight >= 0):
            raise ConfigError(
                f'A2MIMHead: unmask_weight={unmask_weight} and fft_unmask_weight={fft_unmask_weight} must lie in '
                f'[0, 1], fft_weight={fft_weight} must not be negative'
            )
        if alpha <= 0 or gamma < 1:
            raise ConfigError(
                f'A2MIMHead: alpha={alpha} must be greater than 0 and gamma={gamma} at least 1 (below 1 the gradient '
                'of a vanishing error is infinite)'
            )
        if fft_reweight and fft_focal:
            raise ConfigError('A2MIMHead: fft_reweight acts only with fft_focal=False; the focal loss weighs by itself')
        self.error = dict(mode=mode, alpha=alpha, gamma=gamma, activate=activate, residual=residual)
        self.unmask_weight, self.fft_weight = unmask_weight, fft_weight
        self.fft_focal, self.fft_reweight = fft_focal, fft_reweight
        self.fft_unmask_weight, self.fft_unmask_replace = fft_unmask_weight, fft_unmask_replace or 'target'

    def loss(self, prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses by name, scalars: ``loss_spatial``, and ``loss_fourier`` with its weight if it has one.

        Args:
            prediction: r, [B, C, H, W].
            target: x, [B, C, H, W] normalized images.
            mask: [B, h, w] grid of blocks, 1 = masked; h divides H and w divides W.

        Raises:
            ConfigError: If prediction and images differ in shape.
        """
        masked = pixel_mask(prediction, target, mask)  # [B, 1, H, W]
        with torch.autocast(prediction.device.type, enabled=False):
            prediction, target = at_least_float32(prediction), at_least_float32(target)
            masked = masked.to(target.dtype)
            error = regression_error(prediction - target, **self.error)  # type: ignore[arg-type]
            losses = {'loss_spatial': masked_mean(error, masked + (1 - masked) * self.unmask_weight)}
            if self.fft_weight:
                picture = self._picture(prediction, target, masked)
                losses['loss_fourier'] = self.fft_weight * self._fourier(picture - target)
        return losses

    def _picture(self, prediction: torch.Tensor, target: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
        """What is transformed in place of the prediction, [B, C, H, W]."""
        if self.fft_unmask_weight == 1:
            return prediction
        replacement = {
            'target': lambda: target,
            'prediction': prediction.detach,
            'mean': lambda: target.mean((2, 3), keepdim=True),
            'mixed': lambda: 0.5 * prediction.detach() + 0.5 * target,
        }[self.fft_unmask_replace]()
        share = masked + (1 - masked) * self.fft_unmask_weight
        return prediction * share + replacement * (1 - share)

    def _fourier(self, difference: torch.Tensor) -> torch.Tensor:
        if self.fft_focal:
            return focal_frequency_loss(difference, average_spectrum=True, log_matrix=True, batch_matrix=True)
        return fourier_error(difference, self.fft_reweight, **self.error)  # type: ignore[arg-type]


def _one_of(name: str, value: str | None, known: tuple[str | None, ...]) -> None:
    if value not in known:
        raise ConfigError(f'A2MIMHead: unknown {name} {value!r}; choose from {", ".join(map(str, known))}')
