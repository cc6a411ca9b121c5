"""The two vision transformers of TEC: the new model that learns, and the base model that it learns from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mmselfsup_graft.checkpoints import Depth, vit_depth
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.blocks import norm_queries
from mmselfsup_graft.registry import MODELS

from .vit import SelfSupViT


class TokenMLP(nn.Module):
    """Two linear layers with a GELU between them, [..., D] -> [..., D], no residual and no norm.

    Args:
        width: D.
        hidden: Channels between the layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]."""
        return self.fc2(F.gelu(self.fc1(x)))


@MODELS.register_module()
class TECViT(SelfSupViT):
    """Encoder of TEC's new model (arXiv 2210.11016): a class token made by an MLP, and the outputs of all blocks.

    The MLP depends on no image. After training its output becomes a plain class token (the converters and a graft into
    any other backbone do that), and the encoder a plain ViT with the same features.

    Args:
        input_adaptor: Whether there is that MLP.
        **kwargs: See :class:`SelfSupViT`.
    """

    def __init__(self, *, input_adaptor: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.cls_token is None:
            raise ConfigError('TECViT needs a class token; leave with_cls_token out')
        self.cls_token_mlp = TokenMLP(self.embed_dims, 4 * self.embed_dims) if input_adaptor else None

    @property
    def depth(self) -> Depth:
        """As of a plain ViT; the MLP belongs to the stem, as the class token does."""
        plain = vit_depth(self.num_layers)
        return Depth((*plain.stem, 'cls_token_mlp'), plain.blocks)

    def input_token(self) -> torch.Tensor:
        """Class token as it enters the encoder, before its position, [1, 1, D]."""
        return self.cls_token if self.cls_token_mlp is None else self.cls_token_mlp(self.cls_token)

    def encode_blocks(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Outputs of all blocks side by side, the last one after the final norm.

        Args:
            x: [B, C, H, W] normalized images.
            keep: [B, K] indices of the patches to keep; None keeps all.

        Returns:
            [B, 1 + K, depth * D], channels of the first block first; registers are left out.
        """
        tokens, _ = self._embed(x, keep)
        outputs = []
        for layer in self.layers:
            tokens = layer(tokens)
            outputs.append(self.without_registers(tokens))
        outputs[-1] = self.ln1(outputs[-1]) if self.final_norm else outputs[-1]
        return torch.cat(outputs, dim=-1)


class Targets(NamedTuple):
    """What a base model says about images.

    Attributes:
        feature: [B, L, C] mean output of its last blocks, patches only, not normalized.
        rows: [B, K] patches to which the class token attends most, best first; None without the attention target.
        attention: [B, 1 + K, H, L] logits (before softmax) of the last block between patches and the class token, then
            the patches ``rows``; None likewise.
    """

    feature: torch.Tensor
    rows: torch.Tensor | None = None
    attention: torch.Tensor | None = None


@MODELS.register_module()
class TargetViT(SelfSupViT):
    """TEC's base model: a frozen, pre-trained ViT that gives features and rows of its last attention map.

    It has no final norm, which the targets do not use. Nothing of it is trained: it is always in eval mode.

    Args:
        last_layers: How many of the last blocks are averaged to the feature target.
        topk: K, how many patches have their attention row predicted, beside the class token; None leaves the attention
            target out.
        **kwargs: See :class:`SelfSupViT`.

    Raises:
        ConfigError: If there are not so many blocks or patches.
    """

    def __init__(self, *, last_layers: int = 2, topk: int | None = 15, **kwargs: Any) -> None:
        kwargs.setdefault('final_norm', False)
        super().__init__(**kwargs)
        if not 1 <= last_layers <= self.num_layers:
            raise ConfigError(f'base model: last_layers={last_layers} is outside 1..{self.num_layers}, its blocks')
        if topk is not None and not 1 <= topk <= self.num_patches:
            raise ConfigError(f'base model: topk={topk} is outside 1..{self.num_patches}, the patches of an image')
        self.last_layers, self.topk = last_layers, topk
        self.requires_grad_(False)
        super().train(False)

    @property
    def num_heads(self) -> int:
        """Attention heads, H."""
        return self.layers[-1].attn.num_heads

    def train(self, mode: bool = True) -> 'TargetViT':
        """Stay in eval mode."""
        return self

    @torch.no_grad()
    def targets(self, x: torch.Tensor) -> Targets:
        """Targets for [B, C, H, W] normalized images, the very ones of which the new model sees parts."""
        tokens, _ = self._embed(x, None)
        outputs = []
        for layer in self.layers[:-1]:
            tokens = layer(tokens)
            outputs.append(tokens)
        tokens, query, key = _block_with_queries(self.layers[-1], tokens)
        outputs.append(tokens)
        last: Sequence[torch.Tensor] = outputs[-self.last_layers :]
        extra = 1 + self.num_registers
        feature = (sum(last[1:], last[0]) / len(last))[:, extra:]  # [B, L, C]
        if self.topk is None:
            return Targets(feature)
        # ranked in float32: rounding could exchange patches that are nearly level
        query, key = (t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in (query, key))
        scale = query.shape[-1] ** -0.5
        with torch.autocast(x.device.type, enabled=False):
            of_class = query[:, :, :1] @ key.transpose(-2, -1) * scale  # [B, H, 1, extra + L]
            rows = of_class[:, :, 0, extra:].mean(1).topk(self.topk, dim=1).indices  # [B, K]
            wanted = rows[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[-1])
            chosen = query[:, :, extra:].gather(2, wanted)  # [B, H, K, C / H]
            of_patches = chosen @ key.transpose(-2, -1) * scale
        attention = torch.cat([of_class, of_patches], dim=2)[..., extra:]  # [B, H, 1 + K, L]
        return Targets(feature, rows, attention.transpose(1, 2))


def _block_with_queries(layer: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Output of a pre-norm block, with fused attention, and its queries and keys, each [B, H, N, C / H]."""
    attention = layer.attn
    mixed = attention.qkv(layer.ln1(tokens)).unflatten(-1, (3, attention.num_heads, -1))  # [B, N, 3, H, C / H]
    query, key, value = mixed.permute(2, 0, 3, 1, 4)
    query, key = norm_queries(attention, query, key)
    attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)  # [B, N, C]
    tokens = tokens + attention.gamma1(attention.proj(attended))
    return layer.ffn(layer.ln2(tokens), identity=tokens), query, key
