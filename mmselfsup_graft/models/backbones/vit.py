"""Vision transformer for pre-training: fixed position table, kept-patch input, published initializations."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import nn

from mmselfsup_graft.checkpoints import Depth, sincos_table, vit_depth
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.blocks import EncoderBlock, run_blocks
from mmselfsup_graft.models.foreign_weights import refuse_pretrained_init
from mmselfsup_graft.models.masking import take_patches, take_tokens
from mmselfsup_graft.registry import MODELS

CLASS_TOKEN = slice(0, 1)


@MODELS.register_module()
class SelfSupViT(VisionTransformer):
    """mmpretrain's ViT (pre-norm, exact GELU, LayerNorm eps 1e-6) made ready for MAE, MoCo v3 and grafting.

    Differs from mmpretrain's MAEViT and MoCoV3ViT: the sine-cosine position table is frozen whether or not weights
    are loaded, its layout is MAE's unless MoCo v3's is asked for, masking takes the noise from the caller, and which
    blocks are frozen is the algorithm's business.

    Args:
        img_size: Side of the images in pixels, or (H, W); MAE and TEC need square ones.
        patch_size: Side of a patch.
        arch: Name in :attr:`arch_zoo` (``deit-small`` is ViT-S with 6 heads, ``mocov3-small`` with 12, ``base``,
            ``large``) or a dict with embed_dims, num_layers, num_heads, feedforward_channels.
        init: ``mae`` or ``mocov3``: weight initialization and layout of the position table.
        stop_grad_patch_embed: Freeze the patch projection, as all official MoCo v3 and Layer Grafted recipes do.
        num_registers: Learned tokens between class token and patches, without position (DINOv2, arXiv 2309.16588). They
            take part in attention; features, decoders and maps leave them out, ``out_type='raw'`` shows them.
        qk_norm: Layer norms on the queries and keys of every head.
        learn_positions: Train the position table too, as MAE's fine-tuning does.
        out_type: As in mmpretrain; ``cls_token`` is the feature after the final norm.
        out_indices: Blocks whose outputs are returned, as in mmpretrain.
        frozen_stages: As in mmpretrain.
        **kwargs: Further arguments of :class:`mmpretrain.models.VisionTransformer`: ``layer_scale_init_value`` for a
            learned layer scale, ``layer_cfgs=dict(ffn_type='swiglu_fused')`` for gated MLPs.

    Raises:
        ConfigError: For an unknown ``arch`` or ``init``, an image size that the patch size does not divide, an output
            of a block that does not exist, or no class token.
    """

    arch_zoo = {
        **VisionTransformer.arch_zoo,
        'mocov3-small': {'embed_dims': 384, 'num_layers': 12, 'num_heads': 12, 'feedforward_channels': 1536},
    }

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        init: str = 'mae',
        stop_grad_patch_embed: bool = False,
        out_type: str = 'cls_token',
        num_registers: int = 0,
        qk_norm: bool = False,
        learn_positions: bool = False,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        **kwargs: Any,
    ) -> None:
        refuse_pretrained_init(kwargs.get('init_cfg'), 'SelfSupViT')
        if isinstance(arch, str) and arch.lower() not in self.arch_zoo:
            raise ConfigError(f'SelfSupViT: unknown arch {arch!r}; choose from {", ".join(sorted(self.arch_zoo))}')
        if init not in ('mae', 'mocov3'):
            raise ConfigError(f'SelfSupViT: init must be "mae" or "mocov3", got {init!r}')
        if any(side % patch_size for side in ([img_size] if isinstance(img_size, int) else img_size)):
            raise ConfigError(f'SelfSupViT: img_size {img_size} is not a multiple of patch_size {patch_size}')
        settings = self.arch_zoo[arch.lower()] if isinstance(arch, str) else arch
        if settings['embed_dims'] % settings['num_heads']:
            raise ConfigError(
                f'SelfSupViT: a width of {settings["embed_dims"]} cannot be shared by {settings["num_heads"]} heads'
            )
        if not kwargs.get('with_cls_token', True):
            raise ConfigError('SelfSupViT needs a class token; leave with_cls_token out')
        if num_registers < 0:
            raise ConfigError(f'SelfSupViT: num_registers={num_registers} must not be negative')
        # the blocks are of our own class: the parent builds none
        super().__init__(
            arch={**settings, 'num_layers': 0},
            img_size=img_size,
            patch_size=patch_size,
            out_type=out_type,
            out_indices=0,
            **kwargs,
        )
        self.arch_settings, self.num_layers = settings, settings['num_layers']
        self.layers = _build_blocks(
            settings,
            qk_norm,
            drop_rate=kwargs.get('drop_rate', 0.0),
            drop_path_rate=kwargs.get('drop_path_rate', 0.0),
            qkv_bias=kwargs.get('qkv_bias', True),
            norm_cfg=kwargs.get('norm_cfg'),
            layer_scale_init_value=kwargs.get('layer_scale_init_value', 0.0),
            layer_cfgs=kwargs.get('layer_cfgs'),
        )
        self.out_indices = _count_from_zero(out_indices, self.num_layers)
        self.frozen_stages = frozen_stages
        if frozen_stages > 0:
            self._freeze_stages()
        self.num_registers = num_registers
        self.register_tokens: nn.Parameter | None = None
        if num_registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, num_registers, self.embed_dims))
            self.num_extra_tokens += num_registers
        self.init = init
        self.pos_embed.requires_grad = learn_positions and frozen_stages <= 0
        if stop_grad_patch_embed:
            self.patch_embed.projection.requires_grad_(False)

    @property
    def depth(self) -> Depth:
        """Which layer each parameter belongs to."""
        return vit_depth(self.num_layers)

    @property
    def graft_optional(self) -> tuple[str, ...]:
        """What a checkpoint may lack: the norm of pooled patches, which only fine-tuning has."""
        return ('ln2.',) if self.out_type == 'avg_featmap' else ()

    @property
    def num_patches(self) -> int:
        """Patches of an image of the construction size."""
        return self.patch_resolution[0] * self.patch_resolution[1]

    def init_weights(self) -> None:
        """Fixed position table, then the initialization of MAE or of MoCo v3 (specification, section 2)."""
        super().init_weights()
        self.pos_embed.data.copy_(sincos_table(self.patch_resolution, self.embed_dims, self.init))
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                self._init_linear(name, module)
        self._init_patch_embed()
        nn.init.normal_(self.cls_token, std=0.02 if self.init == 'mae' else 1e-6)
        if self.register_tokens is not None:
            nn.init.normal_(self.register_tokens, std=1e-6)

    def _init_linear(self, name: str, linear: nn.Linear) -> None:
        if self.init == 'mocov3' and name.endswith('attn.qkv'):
            # q, k and v are three matrices stored as one
            bound = math.sqrt(6.0 / (linear.out_features // 3 + linear.in_features))
            nn.init.uniform_(linear.weight, -bound, bound)
        else:
            nn.init.xavier_uniform_(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)

    def _init_patch_embed(self) -> None:
        projection = self.patch_embed.projection
        if self.init == 'mae':
            nn.init.xavier_uniform_(projection.weight.view(projection.out_channels, -1))
        else:
            fan = projection.weight[0].numel() + projection.out_channels
            bound = math.sqrt(6.0 / fan)
            nn.init.uniform_(projection.weight, -bound, bound)
            nn.init.zeros_(projection.bias)

    def encode(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens after the final norm.

        Args:
            x: [B, C, H, W] normalized images.
            keep: [B, K] indices of the patches to keep; None keeps all.

        Returns:
            [B, 1 + K, D] class token and kept patches, in the order of ``keep``; registers are left out.
        """
        tokens, _ = self._embed(x, keep)
        tokens = self.without_registers(run_blocks(self.layers, tokens))
        return self.ln1(tokens) if self.final_norm else tokens

    def without_registers(self, tokens: torch.Tensor) -> torch.Tensor:
        """Class token and patches [B, 1 + K, D] of all tokens [B, 1 + R + K, D]."""
        if not self.num_registers:
            return tokens
        return torch.cat([tokens[:, :1], tokens[:, 1 + self.num_registers :]], dim=1)

    def class_token(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Class token after the final norm, [B, D]: ``encode(x, keep)[:, 0]`` for less.

        The last block computes the class token only, see :class:`EncoderBlock`: 7 % of a ViT-B's work less.
        """
        tokens, _ = self._embed(x, keep)  # [B, 1 + R + K, D]
        token = run_blocks(self.layers, tokens, CLASS_TOKEN)  # [B, 1, D]
        return (self.ln1(token) if self.final_norm else token)[:, 0]

    def input_token(self) -> torch.Tensor:
        """Class token as it enters the encoder, before its position, [1, 1, D]."""
        return self.cls_token

    def _patches(self, x: torch.Tensor, keep: torch.Tensor | None) -> tuple[torch.Tensor, tuple[int, int]]:
        """Embedded patches [B, K, D] and the grid of all of them."""
        if keep is not None and self._cuts_patches:
            return self._kept_patches(x, keep)
        patches, grid = self.patch_embed(x)  # [B, L, D]
        return (patches if keep is None else take_tokens(patches, keep)), grid

    @property
    def _cuts_patches(self) -> bool:
        """Whether the patch embedding is a linear map of patches that do not overlap."""
        each = self.patch_embed.projection
        tiles = each.kernel_size == each.stride and each.padding == (0, 0)
        return tiles and each.dilation == (1, 1) and each.groups == 1

    def _kept_patches(self, x: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        """The same from the pixels of kept patches: no work on the others, and no map of all patches in memory."""
        embedding = self.patch_embed
        height, width = embedding.projection.stride
        x = embedding.adaptive_padding(x) if embedding.adaptive_padding else x
        grid = x.shape[2] // height, x.shape[3] // width
        pixels = take_patches(x[:, :, : grid[0] * height, : grid[1] * width], (height, width), keep).flatten(2)
        patches = F.linear(pixels, embedding.projection.weight.flatten(1), embedding.projection.bias)
        return (patches if embedding.norm is None else embedding.norm(patches)), grid

    def _embed(self, x: torch.Tensor, keep: torch.Tensor | None) -> tuple[torch.Tensor, tuple[int, int]]:
        """Tokens [B, 1 + R + K, D] as the first block takes them (R registers), and the grid of all patches."""
        patches, grid = self._patches(x, keep)
        table = resize_pos_embed(self.pos_embed, self.patch_resolution, grid, self.interpolate_mode)
        patches = patches + (table[:, 1:] if keep is None else table[0, 1:][keep])  # [B, K, D]
        cls_token = (self.input_token() + table[:, :1]).expand(x.shape[0], -1, -1)
        leading = [cls_token]
        if self.register_tokens is not None:
            leading.append(self.register_tokens.expand(x.shape[0], -1, -1))
        return self.pre_norm(self.drop_after_pos(torch.cat([*leading, patches], dim=1))), grid

    def _prepare_pos_embed(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Mmpretrain's hook on loading, which takes every extra token for one with a position."""
        registers = getattr(self, 'num_registers', 0)
        self.num_extra_tokens -= registers
        try:
            super()._prepare_pos_embed(state_dict, prefix, *args, **kwargs)
        finally:
            self.num_extra_tokens += registers

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> Sequence[torch.Tensor]:
        """Features as mmpretrain's ViT gives them.

        Args:
            x: [B, C, H, W] normalized images.
            keep: [B, K] indices of the patches that are seen; None shows all.

        Raises:
            ConfigError: If patches are kept and the output is not the class token after the last block.
        """
        if self.out_type == 'cls_token' and list(self.out_indices) == [self.num_layers - 1]:
            return (self.class_token(x, keep),)
        if keep is not None:
            raise ConfigError('SelfSupViT: masked input needs out_type="cls_token" and the last block as output')
        tokens, grid = self._embed(x, None)
        outputs = []
        for index, layer in enumerate(self.layers):
            tokens = layer(tokens)
            if index == self.num_layers - 1 and self.final_norm:
                tokens = self.ln1(tokens)
            if index in self.out_indices:
                outputs.append(self._format_output(tokens, grid))
        return tuple(outputs)


def _build_blocks(
    settings: Mapping[str, int],
    qk_norm: bool,
    *,
    drop_rate: float,
    drop_path_rate: float,
    qkv_bias: bool,
    norm_cfg: dict | None,
    layer_scale_init_value: float,
    layer_cfgs: dict | Sequence[dict] | None,
) -> ModuleList:
    """The blocks of a ViT with mmpretrain's arguments and defaults; the rate of drop path grows with the depth."""
    depth = settings['num_layers']
    own = layer_cfgs or {}
    per_block = [own] * depth if isinstance(own, dict) else own
    shared = dict(
        embed_dims=settings['embed_dims'],
        num_heads=settings['num_heads'],
        feedforward_channels=settings['feedforward_channels'],
        layer_scale_init_value=layer_scale_init_value,
        drop_rate=drop_rate,
        qkv_bias=qkv_bias,
        norm_cfg=norm_cfg or dict(type='LN', eps=1e-6),
        qk_norm=qk_norm,
    )
    rates = np.linspace(0, drop_path_rate, depth)
    return ModuleList(
        EncoderBlock(**{**shared, 'drop_path_rate': rate, **options}) for rate, options in zip(rates, per_block)
    )


def _count_from_zero(indices: int | Sequence[int], depth: int) -> list[int]:
    """Numbers of blocks, negative ones counted from the end."""
    numbers = [indices] if isinstance(indices, int) else list(indices)
    for number in numbers:
        if not -depth <= number < depth:
            raise ConfigError(f'SelfSupViT: out_indices has {number}, expected -{depth} to {depth - 1}, the blocks')
    return [number % depth for number in numbers]
