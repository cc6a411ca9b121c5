"""The ViT of the published SimMIM and A2MIM weights: relative positions and layer scale in every block."""

from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import BEiTViT
from mmpretrain.models.utils import BEiTAttention
from torch import nn

from mmselfsup_graft.checkpoints import Depth, vit_depth
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.foreign_weights import refuse_pretrained_init
from mmselfsup_graft.registry import MODELS


class FusedBEiTAttention(BEiTAttention):
    """mmpretrain's attention with relative positions, in one fused kernel on a GPU.

    On a CPU torch has no fused kernel for a bias that learns, and the explicit form is the faster one.
    """

    def forward(self, x: torch.Tensor, rel_pos_bias: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens [B, N, D] -> [B, N, D]; ``rel_pos_bias`` [H, N, N] is one that all blocks share."""
        return self.fused(x, rel_pos_bias) if x.is_cuda else super().forward(x, rel_pos_bias)

    def fused(self, x: torch.Tensor, rel_pos_bias: torch.Tensor | None = None) -> torch.Tensor:
        """The same without a map of attention in memory."""
        mixed = F.linear(x, self.qkv.weight, self._qkv_bias()).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # each [B, H, N, D / H]
        biases = [bias for bias in (self._own_bias(), rel_pos_bias) if bias is not None]
        bias = sum(biases[1:], biases[0])[None].to(query.dtype) if biases else None  # [1, H, N, N]
        dropout = self.attn_drop.p if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, bias, dropout, scale=self.scale)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))

    def _qkv_bias(self) -> torch.Tensor | None:
        """Of queries and values alone (BEiT), or whatever the linear layer has."""
        if self.bias == 'qv_bias':
            return torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        return self.qkv.bias

    def _own_bias(self) -> torch.Tensor | None:
        """Bias of every pair of tokens in this block, [H, N, N]."""
        if self.relative_position_bias_table is None:
            return None
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


@MODELS.register_module()
class SelfSupBEiT(BEiTViT):
    """mmpretrain's BEiT with the initialization of SimMIM and A2MIM (arXiv 2205.13943), ready for grafting.

    Linear layers, class token and learnable position table: truncated normal 0.02, biases 0; relative position tables
    start at 0; the patch projection keeps torch's default.

    Args:
        arch: As in mmpretrain; ``small`` is A2MIM's ViT-S (768 wide, 8 blocks, 8 heads), ``deit-small`` the usual one.
        img_size: Side of the images in pixels.
        patch_size: Side of a patch.
        use_abs_pos_emb: Learnable absolute positions beside the relative ones, as the published weights have.
        out_type: As in mmpretrain: ``featmap`` for pre-training, ``avg_featmap`` for fine-tuning, the mean of the
            patches through a norm of its own.
        final_norm: Norm after the last block, for pre-training.
        **kwargs: Further arguments of :class:`mmpretrain.models.BEiTViT`.

    Raises:
        ConfigError: If the patch size does not divide the image.
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int = 224,
        patch_size: int = 16,
        use_abs_pos_emb: bool = True,
        out_type: str = 'featmap',
        final_norm: bool = True,
        **kwargs: Any,
    ) -> None:
        refuse_pretrained_init(kwargs.get('init_cfg'), type(self).__name__)
        if img_size % patch_size:
            raise ConfigError(
                f'{type(self).__name__}: img_size {img_size} is not a multiple of patch_size {patch_size}'
            )
        sizes = dict(arch=arch, img_size=img_size, patch_size=patch_size)
        super().__init__(**sizes, use_abs_pos_emb=use_abs_pos_emb, out_type=out_type, final_norm=final_norm, **kwargs)
        with torch.random.fork_rng(devices=[]):  # the numbers that follow are those of mmpretrain's BEiT
            for layer in self.layers:
                layer.attn = _fused(layer.attn)

    @property
    def depth(self) -> Depth:
        """Which layer each parameter belongs to."""
        return vit_depth(self.num_layers)

    @property
    def graft_optional(self) -> tuple[str, ...]:
        """What a checkpoint may lack: the norm of pooled patches, which only fine-tuning has."""
        return ('ln2.',) if self.out_type == 'avg_featmap' else ()

    def init_weights(self) -> None:
        """Published initialization, see the class."""
        super().init_weights()
        init_linear_layers(self)
        for name, parameter in self.named_parameters():
            if name in ('cls_token', 'pos_embed'):
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith('relative_position_bias_table'):
                nn.init.zeros_(parameter)


def _fused(attention: BEiTAttention) -> FusedBEiTAttention:
    """Fused attention of the sizes and options of an explicit one."""
    return FusedBEiTAttention(
        embed_dims=attention.embed_dims,
        num_heads=attention.num_heads,
        window_size=attention.window_size,
        use_rel_pos_bias=attention.use_rel_pos_bias,
        bias=attention.bias,
        qk_scale=attention.scale,
        attn_drop_rate=attention.attn_drop.p,
        proj_drop_rate=attention.proj_drop.p,
    )


def init_linear_layers(model: nn.Module) -> None:
    """Truncated normal 0.02 and bias 0 for every linear layer (SimMIM, arXiv 2111.09886)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
