"""Transformer blocks that can compute only some of their outputs."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention
from torch import nn


class NormedAttention(BaseModule):
    """Attention with a layer norm on the queries and one on the keys of every head.

    Args:
        attention: mmpretrain's attention, whose layers are kept with their names.
    """

    def __init__(self, attention: MultiheadAttention) -> None:
        super().__init__()
        self.embed_dims, self.num_heads = attention.embed_dims, attention.num_heads
        self.head_dims, self.attn_drop = attention.head_dims, attention.attn_drop
        self.qkv, self.proj, self.proj_drop = attention.qkv, attention.proj, attention.proj_drop
        self.out_drop, self.gamma1 = attention.out_drop, attention.gamma1
        self.q_norm, self.k_norm = (nn.LayerNorm(self.head_dims, eps=1e-6) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [B, N, D] -> [B, N, D]."""
        mixed = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = norm_queries(self, mixed[0], mixed[1])
        dropout = self.attn_drop if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, mixed[2], dropout_p=dropout).transpose(1, 2).flatten(2)
        return self.out_drop(self.gamma1(self.proj_drop(self.proj(out))))


def norm_queries(attention: Any, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys [B, heads, N, D / heads], normalized if the attention does so."""
    if not isinstance(attention, NormedAttention):
        return query, key
    return attention.q_norm(query), attention.k_norm(key)


class EncoderBlock(TransformerEncoderLayer):
    """mmpretrain's pre-norm block, which can compute the outputs of some tokens only.

    A token's output depends on the other tokens through their keys and values alone. Where only some outputs of the
    last block are used, the other tokens need no query, no output projection and no MLP: exact up to rounding.

    Args:
        embed_dims: Width D of the tokens.
        num_heads: Attention heads.
        feedforward_channels: Width inside the MLP.
        qk_norm: Layer norms on the queries and keys of every head.
        **kwargs: See :class:`mmpretrain.models.backbones.vision_transformer.TransformerEncoderLayer`.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, feedforward_channels: int, *, qk_norm: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(embed_dims, num_heads, feedforward_channels, **kwargs)
        self.attn: Any
        if qk_norm:
            self.attn = NormedAttention(self.attn)

    def forward(self, x: torch.Tensor, chosen: slice | None = None) -> torch.Tensor:
        """Outputs of the chosen tokens [B, Q, D] from all tokens [B, N, D]; of all of them without a choice."""
        if chosen is None:
            return super().forward(x)
        asking = x[:, chosen]  # [B, Q, D]
        asking = asking + self._attend(self.ln1(x), chosen)
        return self.ffn(self.ln2(asking), identity=asking)

    def _attend(self, normed: torch.Tensor, chosen: slice) -> torch.Tensor:
        """Attention as in mmpretrain, with the queries of the chosen tokens and the keys and values of all."""
        attention = self.attn
        width, heads = attention.embed_dims, attention.num_heads
        weights = attention.qkv.weight.split([width, 2 * width])
        biases = (None, None) if attention.qkv.bias is None else attention.qkv.bias.split([width, 2 * width])
        query = F.linear(normed[:, chosen], weights[0], biases[0]).unflatten(-1, (heads, -1))
        key, value = F.linear(normed, weights[1], biases[1]).unflatten(-1, (2, heads, -1)).unbind(2)
        dropout = attention.attn_drop if self.training else 0.0
        query, key, value = (t.transpose(1, 2) for t in (query, key, value))  # [B, heads, tokens, D / heads]
        query, key = norm_queries(attention, query, key)
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        mixed = attention.proj_drop(attention.proj(mixed.transpose(1, 2).flatten(2)))  # [B, Q, D]
        return attention.out_drop(attention.gamma1(mixed))


def run_blocks(blocks: Iterable[Any], tokens: torch.Tensor, chosen: slice | None = None) -> torch.Tensor:
    """Pass tokens [B, N, D] through blocks; the last block computes the chosen tokens only, [B, Q, D], or all."""
    blocks = list(blocks)
    last = blocks.pop() if blocks and chosen is not None else None
    for block in blocks:
        tokens = block(tokens)
    if chosen is None:
        return tokens
    return tokens[:, chosen] if last is None else last(tokens, chosen)
