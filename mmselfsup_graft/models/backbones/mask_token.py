"""Backbones with a mask token: masked image modeling on a ViT, a ResNet or a ConvNeXt alike.

A small class in front of a backbone of mmpretrain: forward hooks put the token in, so the backbone's own code stays
untouched and its tensors keep their names; ``mask_token`` and perhaps ``mask_gamma`` are added to them.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Any, NamedTuple

import torch
from mmpretrain.models import ConvNeXt, ResNet_CIFAR, SwinTransformer
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.foreign_weights import refuse_pretrained_init
from mmselfsup_graft.models.masking import expand_mask, mix_mask_token
from mmselfsup_graft.registry import MODELS

from .beit import SelfSupBEiT, init_linear_layers
from .resnet import SelfSupResNet
from .vit import SelfSupViT


class TokenSite(NamedTuple):
    """A place in a backbone where the token may act.

    Attributes:
        module: The token acts on its input or on its output.
        on_input: Which of the two.
        width: Channels there.
    """

    module: nn.Module
    on_input: bool
    width: int


TOKEN_KINDS = ('learnable', 'randn', 'zero', 'mean', 'instance_mean', 'none')


class MaskToken(nn.Module):
    """First parent of a backbone that takes a mask; without one it is the plain backbone.

    Args:
        mask_layer: Where the token acts, see :meth:`token_sites` of the backbone; 0 is SimMIM's place, after the stem.
        mask_replace: The token replaces masked features (SimMIM, arXiv 2111.09886); otherwise it is added to them
            (A2MIM, arXiv 2205.13943).
        mask_gain: Start of a learnable gain per channel of masked features that are not replaced; 0 means no gain.
        mask_kind: ``learnable`` (all published runs), ``randn`` (random, fixed), ``zero``, ``mean`` (of each channel
            over batch and places, held constant), ``instance_mean`` (over the places of each image, with gradient) or
            ``none``: the mask does nothing to the features.
        mask_std: Of a learnable token's truncated normal; 0 starts it at zero, as the released ConvNeXt does.
        mask_detach: No gradient flows into masked features.
        **kwargs: Arguments of the backbone.

    Raises:
        ConfigError: If the backbone has no such layer, the kind is unknown, or a gain is asked for where everything is
            replaced.
    """

    #: a checkpoint of another objective has neither
    graft_optional: tuple[str, ...] = ('mask_token', 'mask_gamma')

    def __init__(
        self,
        *,
        mask_layer: int = 0,
        mask_replace: bool = True,
        mask_gain: float = 0.0,
        mask_kind: str = 'learnable',
        mask_std: float = 0.02,
        mask_detach: bool = False,
        **kwargs: Any,
    ) -> None:
        refuse_pretrained_init(kwargs.get('init_cfg'), type(self).__name__)
        super().__init__(**kwargs)
        sites = self.token_sites()
        if not 0 <= mask_layer < len(sites):
            raise ConfigError(f'{type(self).__name__}: mask_layer={mask_layer} is outside 0..{len(sites) - 1}')
        if mask_gain < 0 or (mask_gain and (mask_replace or mask_kind == 'none')):
            raise ConfigError(
                f'{type(self).__name__}: mask_gain={mask_gain} acts only with mask_replace=False and a token, and '
                'must not be negative'
            )
        if mask_kind not in TOKEN_KINDS or mask_std < 0:
            raise ConfigError(
                f'{type(self).__name__}: mask_kind={mask_kind!r} must be one of {", ".join(TOKEN_KINDS)} and '
                f'mask_std={mask_std} not negative'
            )
        self.mask_replace, self.mask_gain, self.mask_detach = mask_replace, mask_gain, mask_detach
        self.mask_kind, self.mask_std = mask_kind, mask_std
        self._mask: torch.Tensor | None = None
        self._image_size = (1, 1)  # square unless a batch says otherwise
        self.mask_token: nn.Parameter | None = None
        self.mask_gamma: nn.Parameter | None = None
        if mask_kind != 'none':
            self._add_token(sites[mask_layer], mask_layer)

    def token_sites(self) -> list[TokenSite]:
        """Where the token may act, by ``mask_layer``."""
        raise NotImplementedError

    def token_shapes(self, width: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of token and gain for features of ``width`` channels; maps [B, C, H, W] unless overridden."""
        return (1, width, 1, 1), (1, width, 1, 1)

    def _add_token(self, site: TokenSite, layer: int) -> None:
        """Make token and gain, and let them act at the site of this ``mask_layer``."""
        token, gain = self.token_shapes(site.width)
        fixed = self.mask_kind in ('randn', 'zero')
        if self.mask_kind == 'learnable' or fixed:
            self.mask_token = nn.Parameter(torch.zeros(token), requires_grad=not fixed)
        if self.mask_gain:
            self.mask_gamma = nn.Parameter(torch.full(gain, self.mask_gain))
        # bound methods: a deep copy of the backbone gets hooks of its own
        if site.on_input:
            site.module.register_forward_pre_hook(self._on_input)
        else:
            site.module.register_forward_hook(self._on_output)

    def init_weights(self) -> None:
        """The backbone's own initialization, then the token's (truncated at +-2) and the gain as configured."""
        super().init_weights()  # type: ignore[misc]
        if self.mask_token is not None and self.mask_kind == 'randn':
            nn.init.normal_(self.mask_token)
        elif self.mask_token is not None and self.mask_kind == 'learnable' and self.mask_std:
            nn.init.trunc_normal_(self.mask_token, std=self.mask_std)
        if self.mask_gamma is not None:
            nn.init.constant_(self.mask_gamma, self.mask_gain)

    def forward(self, x: torch.Tensor, *args: Any, mask: torch.Tensor | None = None) -> Sequence[torch.Tensor]:
        """Features of images with masked parts.

        Args:
            x: [B, C, H, W] normalized images, nothing hidden: the mask acts inside the network. Without a mask also
                what else the backbone takes, as a ViT takes embedded patches.
            *args: What else the backbone takes.
            mask: [B, h, w] grid of blocks, 1 = masked, of which the map where the token acts is a whole multiple;
                None masks nothing.

        Raises:
            ConfigError: If the mask does not fit that map, or patches are left out as well.
        """
        if mask is not None and any(each is not None for each in args):
            raise ConfigError(f'{type(self).__name__} takes a mask or kept patches, not both')
        if mask is not None:
            self._mask, self._image_size = mask, (x.shape[2], x.shape[3])
        try:
            return super().forward(x, *args)  # type: ignore[misc]
        finally:
            self._mask = None

    def mask_features(self, z: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Put the token into features; maps [B, C, H, W] unless overridden."""
        return self._mix(z, expand_mask(mask, (z.shape[2], z.shape[3])), places=(2, 3))

    def _mix(self, z: torch.Tensor, mask: torch.Tensor, places: tuple[int, ...]) -> torch.Tensor:
        """Put the token into features; ``mask`` is broadcastable to them, ``places`` are their dimensions in space."""
        if self.mask_detach:
            z = torch.where(mask.bool(), z.detach(), z)
        token: Any = self.mask_token
        if self.mask_kind == 'mean':
            token = z.detach().mean((0, *places), keepdim=True)
        elif self.mask_kind == 'instance_mean':
            token = z.mean(places, keepdim=True)
        return mix_mask_token(z, mask, token, self.mask_gamma, self.mask_replace)

    def _on_input(self, module: nn.Module, inputs: tuple) -> tuple:
        return inputs if self._mask is None else (self.mask_features(inputs[0], self._mask), *inputs[1:])

    def _on_output(self, module: nn.Module, inputs: tuple, output: Any) -> Any:
        if self._mask is None:
            return output
        if isinstance(output, tuple):  # a patch embedding also returns its grid
            return self.mask_features(output[0], self._mask), *output[1:]
        return self.mask_features(output, self._mask)


class _ResNetSites(MaskToken):
    """``mask_layer`` k: the input of stage k + 1; 0 is after stem and max-pool."""

    def token_sites(self) -> list[TokenSite]:
        """One site before each stage."""
        stages: list[Any] = [getattr(self, name) for name in self.res_layers]  # type: ignore[union-attr]
        return [TokenSite(stage, True, stage[0].in_channels) for stage in stages]


class _TokenSites(MaskToken):
    """Features are patch tokens, perhaps with a class token before them, which stays as it is."""

    def token_shapes(self, width: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of token and gain for tokens [B, L, C]."""
        return (1, 1, width), (width,)

    def _on_input(self, module: nn.Module, inputs: tuple) -> tuple:
        extra: Any = self.num_extra_tokens
        if self._mask is None:
            return inputs
        tokens = inputs[0]  # [B, 1 + L, C]
        mixed = self.mask_features(tokens[:, extra:], self._mask)
        return torch.cat([tokens[:, :extra], mixed], dim=1), *inputs[1:]

    def mask_features(self, z: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Put the token into patch tokens [B, L, C]."""
        flat = token_mask(mask, z.shape[1], self._image_size)  # [B, L, 1]
        return self._mix(z, flat, places=(1,))


def token_mask(mask: torch.Tensor, count: int, image_size: tuple[int, int]) -> torch.Tensor:
    """A mask [B, h, w] for so many patch tokens of images (H, W): [B, L, 1].

    Raises:
        ConfigError: If the patches are no grid, or the mask does not fit it.
    """
    height, width = image_size
    rows = isqrt(count * height // width)  # the grid has the shape of the image
    if rows * (count // max(1, rows)) != count:
        raise ConfigError(
            f'{count} patches are no grid over images of {height}x{width} pixels, which a mask needs: the '
            'patch size must divide both sides'
        )
    return expand_mask(mask, (rows, count // rows)).flatten(2).transpose(1, 2)


class _TransformerSites(_TokenSites):
    """``mask_layer`` 0: the output of the patch embedding; k: the input of block k (from 1), class token untouched."""

    def token_sites(self) -> list[TokenSite]:
        """After the patch embedding, then one site before each block."""
        width: Any = self.embed_dims
        embedding: Any = self.patch_embed
        blocks: Any = self.layers
        return [TokenSite(embedding, False, width), *(TokenSite(block, True, width) for block in blocks)]


@MODELS.register_module()
class MaskedResNet(_ResNetSites, SelfSupResNet):
    """:class:`SelfSupResNet` with a mask token, see :class:`MaskToken`; arguments of both."""


@MODELS.register_module()
class MaskedResNetCIFAR(_ResNetSites, ResNet_CIFAR):
    """mmpretrain's ResNet for small images (3x3 stem of stride 1, no max-pool) with a mask token."""


@MODELS.register_module()
class MaskedConvNeXt(MaskToken, ConvNeXt):
    """mmpretrain's ConvNeXt with a mask token; ``mask_layer`` k: after down-sampling layer k (0 is the stem)."""

    def token_sites(self) -> list[TokenSite]:
        """One site after each down-sampling layer."""
        layers: Any = self.downsample_layers
        widths: Any = self.channels
        return [TokenSite(layer, False, width) for layer, width in zip(layers, widths)]


@MODELS.register_module()
class MaskedViT(_TransformerSites, SelfSupViT):
    """:class:`SelfSupViT` with a mask token; with ``out_type='featmap'`` its patch tokens are a map [B, D, H, W]."""


@MODELS.register_module()
class MaskedBEiT(_TransformerSites, SelfSupBEiT):
    """:class:`SelfSupBEiT` with a mask token: the ViT of the published SimMIM and A2MIM weights."""


@MODELS.register_module()
class MaskedSwin(_TokenSites, SwinTransformer):
    """mmpretrain's Swin with a mask token; ``mask_layer`` 0: after the patch embedding, k: before stage k (from 1)."""

    def token_sites(self) -> list[TokenSite]:
        """After the patch embedding, then one site before each stage."""
        embedding: Any = self.patch_embed
        stages: Any = self.stages
        width: Any = self.embed_dims
        return [TokenSite(embedding, False, width), *(TokenSite(stage, True, stage.embed_dims) for stage in stages)]

    def init_weights(self) -> None:
        """SimMIM's initialization: linear layers truncated normal 0.02 with bias 0, then the token."""
        super().init_weights()
        init_linear_layers(self)
