"""Spectrum and variance of an encoder's features over its depth.

For the output of every layer the relative log amplitude per frequency: ``log(|F z| + 1e-6)`` of the 2-D DFT of each
channel, averaged over images and channels, along the diagonal from frequency 0 outward, minus its first value. A layer
that smooths lowers its end. Also the variance over space, averaged over images and channels. (Park and Kim, arXiv
2202.06709; A2MIM, arXiv 2205.13943, appendix.)

The values come from hooks on the real model, so layer scale, relative positions and all other parts are included.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import isqrt
from typing import Any

import numpy as np
import torch
from torch import nn

from mmselfsup_graft.checkpoints import depth_of
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.pooling import extra_tokens
from mmselfsup_graft.models.eval_mode import full_precision_eval_mode

_IMAGES_AT_ONCE = 32  # a spectrum is complex: twice the memory of a layer's output
_SECOND_NORMS = ('ln2', 'norm2')  # of ViT and BEiT, of Swin


# ---------------------------------------------------------------- equations
def log_amplitude(maps: torch.Tensor) -> torch.Tensor:
    """Log amplitude along the diagonal from frequency 0 outward, mean over channels: [B, C, h, h] to [B, ceil(h / 2)].

    Entry k belongs to k cycles over the map in either direction, that is to a frequency of ``2 k / h`` in units of pi.
    """
    amplitude = torch.fft.fft2(maps.float()).abs()
    diagonal = amplitude.diagonal(dim1=-2, dim2=-1)[..., : (maps.shape[-1] + 1) // 2]
    return (diagonal + 1e-6).log().double().mean(dim=1)


def relative_log_amplitude(amplitude: torch.Tensor) -> torch.Tensor:
    """Mean log amplitude [K] relative to frequency 0: the first entry is 0."""
    return amplitude - amplitude[0]


def spatial_variance(maps: torch.Tensor) -> torch.Tensor:
    """Variance over space (divided by h * h - 1), mean over channels: [B, C, h, h] to [B]."""
    return maps.float().flatten(2).var(dim=2).double().mean(dim=1)


def as_maps(latent: torch.Tensor, extra_tokens: int = 0) -> torch.Tensor:
    """Square maps [B, C, h, h] from maps [B, C, h, h] or from tokens [B, extra + h * h, C], row by row.

    Args:
        latent: Output of a layer.
        extra_tokens: Leading tokens that are not patches, such as a class token; they are left out.

    Raises:
        ConfigError: If it is neither, or not square.
    """
    if latent.dim() == 3:
        latent = latent[:, extra_tokens:].transpose(1, 2)
        side = isqrt(latent.shape[2])
        if side * side == latent.shape[2]:
            return latent.unflatten(2, (side, side))
    elif latent.dim() == 4 and latent.shape[2] == latent.shape[3]:
        return latent
    raise ConfigError(
        f'the spectrum is taken of square maps [B, C, h, h] or tokens [B, L, C], got {list(latent.shape)}; '
        'use square images'
    )


# ---------------------------------------------------------------- where to look
@dataclass(frozen=True)
class LayerSite:
    """A layer of an encoder whose features are measured.

    Attributes:
        name: ``stem``, then names of modules.
        kind: ``stem``, ``attention``, ``mlp`` or ``block``.
        module: Module whose output or input is measured.
        on_input: Whether its input is measured.
    """

    name: str
    kind: str
    module: nn.Module
    on_input: bool = False


def layer_sites(backbone: nn.Module) -> list[LayerSite]:
    """The measured layers of an encoder with a known depth, from the lowest to the highest.

    The stem is the input of the first block: after the max-pool of a ResNet, patch and position embedding of a ViT.
        Then
    every residual block and down-sampling layer; of a transformer's block both halves, each after its residual sum: the
    input of the second norm is the sum after the attention.

    Raises:
        ConfigError: If the depth of the encoder is unknown.
    """
    blocks = depth_of(backbone).blocks
    sites = [LayerSite('stem', 'stem', backbone.get_submodule(blocks[0][-1]), on_input=True)]
    for *before, name in blocks:
        sites += [LayerSite(each, 'block', backbone.get_submodule(each)) for each in before]
        block = backbone.get_submodule(name)
        norm = next((getattr(block, norm) for norm in _SECOND_NORMS if hasattr(block, norm)), None)
        if norm is not None and hasattr(block, 'attn'):
            sites.append(LayerSite(f'{name}.attn', 'attention', norm, on_input=True))
            sites.append(LayerSite(f'{name}.ffn', 'mlp', block))
        else:
            sites.append(LayerSite(name, 'block', block))
    return sites


# ---------------------------------------------------------------- measuring
@dataclass(frozen=True)
class LayerSpectrum:
    """Features of one layer.

    Attributes:
        name: See :class:`LayerSite`.
        kind: ``stem``, ``attention``, ``mlp``, ``block``, or ``pooling`` where the map is smaller than before.
        side: h, side of the map.
        amplitude: Relative log amplitude, [ceil(h / 2)]; the first entry is 0.
        variance: Over space; NaN for a map of one pixel.
    """

    name: str
    kind: str
    side: int
    amplitude: np.ndarray
    variance: float

    @property
    def frequencies(self) -> np.ndarray:
        """Frequency of each entry in units of pi, [ceil(h / 2)]."""
        return 2 * np.arange(len(self.amplitude)) / self.side

    @property
    def highest(self) -> float:
        """Relative log amplitude of the highest frequency; NaN for maps that have none but 0 (h < 3)."""
        return float(self.amplitude[-1]) if len(self.amplitude) > 1 else float('nan')


@dataclass
class _Sums:
    """Sums over images."""

    images: int = 0
    side: int = 0
    amplitude: list[torch.Tensor] = field(default_factory=list)
    variance: list[torch.Tensor] = field(default_factory=list)

    def add(self, maps: torch.Tensor) -> None:
        self.images += len(maps)
        self.side = maps.shape[-1]
        for part in maps.split(_IMAGES_AT_ONCE):
            self.amplitude.append(log_amplitude(part).sum(dim=0).cpu())
            self.variance.append(spatial_variance(part).sum().cpu() if self.side > 1 else torch.tensor(torch.nan))

    def spectrum(self, site: LayerSite, side_before: int) -> LayerSpectrum:
        """The means.

        Raises:
            DataError: If a feature was not finite.
        """
        amplitude = torch.stack(self.amplitude).sum(dim=0) / self.images
        if not amplitude.isfinite().all():
            raise DataError(f'features of {site.name} are not finite; check the checkpoint')
        kind = 'pooling' if self.side < side_before else site.kind
        relative = relative_log_amplitude(amplitude).numpy()
        variance = torch.stack(self.variance).sum() / self.images
        return LayerSpectrum(site.name, kind, self.side, relative, float(variance))


@contextmanager
def _hooked(sites: Sequence[LayerSite], sums: Sequence[_Sums], extra_tokens: int) -> Iterator[None]:
    """Within the block, add the features of the sites to the sums."""

    def take(total: _Sums, value: Any) -> None:
        value = value[0] if isinstance(value, list | tuple) else value  # others also return their grid
        total.add(as_maps(value, extra_tokens))

    def on_input(module: nn.Module, inputs: Any, *, total: _Sums) -> None:
        take(total, inputs)

    def on_output(module: nn.Module, inputs: Any, output: Any, *, total: _Sums) -> None:
        take(total, output)

    handles = []
    try:
        for site, total in zip(sites, sums):
            if site.on_input:
                handles.append(site.module.register_forward_pre_hook(partial(on_input, total=total)))
            else:
                handles.append(site.module.register_forward_hook(partial(on_output, total=total)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def measure_spectrum(backbone: nn.Module, batches: Iterable[torch.Tensor]) -> list[LayerSpectrum]:
    """Spectrum and variance of every layer, as means over all images; the encoder is not changed.

    Args:
        backbone: Any encoder with a known depth.
        batches: Normalized square images, each batch [B, C, H, H], on the encoder's device. The batch size does
            not change the result.

    Returns:
        One entry per layer, see :func:`layer_sites`.

    Raises:
        ConfigError: If the maps are not square, or a layer is never called.
        DataError: If there is no image or a feature is not finite.
    """
    sites = layer_sites(backbone)
    sums = [_Sums() for _ in sites]
    # the path for the class token only may skip modules; `encode` calls all of them
    run = getattr(backbone, 'encode', backbone)
    number = 0
    with full_precision_eval_mode(backbone), _hooked(sites, sums, extra_tokens(backbone)):
        for batch in batches:
            run(batch)
            number += len(batch)
    if number == 0:
        raise DataError('no image to take a spectrum of')
    silent = next((site.name for site, total in zip(sites, sums) if not total.images), None)
    if silent is not None:
        raise ConfigError(f'{type(backbone).__name__} does not call the module of {silent}')
    sides = [sums[0].side, *(total.side for total in sums)]
    return [total.spectrum(site, side) for site, total, side in zip(sites, sums, sides)]
