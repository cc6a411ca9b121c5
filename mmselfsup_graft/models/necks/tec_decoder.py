"""What TEC puts behind its encoder: the conditional adaptor, and two decoders with shared blocks."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from mmselfsup_graft.checkpoints import sincos_table
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.backbones.tec_vit import TokenMLP
from mmselfsup_graft.models.blocks import EncoderBlock, run_blocks
from mmselfsup_graft.models.masking import PatchMask, take_tokens
from mmselfsup_graft.registry import MODELS


class ConditionalAdaptor(nn.Module):
    """Fuse the outputs of all blocks into one feature (arXiv 2210.11016).

    One norm over all channels; chunks of consecutive blocks, each through a linear layer and an MLP with a residual;
    their sum through another norm. Both norms have an epsilon of 1e-5, unlike all others of the model.

    Args:
        width: D, channels of a block.
        depth: Number of blocks.
        num_chunks: Into how many chunks they are cut.
        hidden: Channels inside the MLPs.
    """

    def __init__(self, width: int, depth: int, num_chunks: int, hidden: int) -> None:
        super().__init__()
        self.norm_before = nn.LayerNorm(depth * width, eps=1e-5)
        self.fuse = nn.ModuleList(nn.Linear(depth // num_chunks * width, width) for _ in range(num_chunks))
        self.mlps = nn.ModuleList(TokenMLP(width, hidden) for _ in range(num_chunks))
        self.norm_after = nn.LayerNorm(width, eps=1e-5)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """[B, N, depth * D] -> [B, N, D]."""
        chunks = self.norm_before(latent).chunk(len(self.fuse), dim=-1)
        fused = [linear(chunk) for linear, chunk in zip(self.fuse, chunks)]
        return self.norm_after(torch.stack([u + mlp(u) for u, mlp in zip(fused, self.mlps)]).sum(0))


class TECPrediction(NamedTuple):
    """What the new model predicts.

    Attributes:
        feature: [B, M, C] of the M hidden patches.
        attention: [B, 1 + K, H, L] logits; None without the attention branch.
    """

    feature: torch.Tensor
    attention: torch.Tensor | None = None


class _Branch(nn.Module):
    """What a decoder has of its own: way in, mask token, norm, way out."""

    def __init__(self, width: int, decoder_width: int, out: int) -> None:
        super().__init__()
        self.embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.head = nn.Linear(decoder_width, out)

    def append_hidden(self, adapted: torch.Tensor, hidden: int) -> torch.Tensor:
        """[B, 1 + keep, D] -> [B, 1 + L, decoder width]: class token, visible patches, then so many mask tokens."""
        tokens = self.embed(adapted)
        mask_tokens = self.mask_token.to(tokens.dtype).expand(len(tokens), hidden, -1)
        return torch.cat([tokens, mask_tokens], dim=1)


@MODELS.register_module()
class TECDecoder(BaseModule):
    """Conditional adaptor and decoders of TEC (arXiv 2210.11016).

    Feature and attention branch share blocks and position table and pass them together, as one batch of twice the size.

    Args:
        num_patches: L, of a square grid.
        embed_dim: D, width of the encoder.
        depth: Number of blocks of the encoder.
        target_dim: C, width of the base model.
        target_num_heads: H, attention heads of the base model.
        num_adap: Chunks of the adaptor; None means ``depth // 3``.
        decoder_embed_dim: Width of the decoders.
        decoder_depth: Number of shared blocks.
        decoder_num_heads: Attention heads of these.
        predict_attention: Whether there is the attention branch.
        attention_scale: Factor of predicted logits; None means ``C ** -0.5``, the whole width, not that of a head.
        drop_path_rate: Of the shared blocks.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: If ``num_adap`` does not divide the depth, H not C, or the grid is not square.
    """

    def __init__(
        self,
        num_patches: int = 196,
        embed_dim: int = 768,
        depth: int = 12,
        target_dim: int = 768,
        target_num_heads: int = 12,
        num_adap: int | None = None,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 2,
        decoder_num_heads: int = 16,
        predict_attention: bool = True,
        attention_scale: float | None = None,
        drop_path_rate: float = 0.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        chunks = max(depth // 3, 1) if num_adap is None else num_adap
        if chunks < 1 or depth % chunks:
            raise ConfigError(
                f'TECDecoder: an encoder of {depth} blocks cannot be cut into {chunks} equal chunks; set num_adap to a '
                'divisor of the depth'
            )
        if target_dim % target_num_heads:
            raise ConfigError(f'TECDecoder: target_dim={target_dim} cannot be shared by {target_num_heads} heads')
        self.side = round(num_patches**0.5)
        if self.side**2 != num_patches:
            raise ConfigError(f'TECDecoder: {num_patches} patches are no square grid')
        self.target_num_heads = target_num_heads
        self.attention_scale = target_dim**-0.5 if attention_scale is None else attention_scale
        self.adaptor = ConditionalAdaptor(embed_dim, depth, chunks, 4 * decoder_embed_dim)
        self.feature = _Branch(embed_dim, decoder_embed_dim, target_dim)
        self.attention = _Branch(embed_dim, decoder_embed_dim, 2 * target_dim) if predict_attention else None
        self.pos_embed = nn.Parameter(torch.zeros(1, num_patches + 1, decoder_embed_dim), requires_grad=False)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                decoder_embed_dim,
                decoder_num_heads,
                4 * decoder_embed_dim,
                drop_path_rate=drop_path_rate,
                norm_cfg=dict(type='LN', eps=1e-6),
            )
            for _ in range(decoder_depth)
        )

    def init_weights(self) -> None:
        """Xavier-uniform linears, zero biases, mask tokens N(0, 0.02), MAE's sine-cosine table."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, _Branch):
                nn.init.normal_(module.mask_token, std=0.02)
        self.pos_embed.data.copy_(sincos_table((self.side, self.side), self.pos_embed.shape[-1]))

    def forward(self, latent: torch.Tensor, mask: PatchMask, rows: torch.Tensor | None = None) -> TECPrediction:
        """Predict the targets: features of the hidden patches, and the rows of attention.

        Attention knows no order, so tokens stay in the order of the encoder, visible patches before hidden ones, each
        with its own position. The last block computes the hidden patches of the feature branch, and all of the
        attention branch, whose patches are keys.

        Args:
            latent: [B, 1 + keep, depth * D], see :meth:`TECViT.encode_blocks`.
            mask: Which patches it holds.
            rows: [B, K] patches whose attention is wanted, beside the class token's.

        Returns:
            The features in the order of ``mask.hidden``.

        Raises:
            ConfigError: If there is an attention branch and no rows are given.
        """
        self._check_rows(rows)
        adapted, hidden = self.adaptor(latent), mask.hidden.shape[1]
        positions = torch.cat(
            [self.pos_embed[:, :1].expand(len(latent), -1, -1), self.pos_embed[0, 1:][mask.order]], dim=1
        )
        branches = self._branches()
        tokens = torch.cat([branch.append_hidden(adapted, hidden) + positions for branch in branches])
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        of_features, *of_attention = tokens.chunk(len(branches))
        of_features = run_blocks(self.blocks[-1:], of_features, slice(-hidden, None))  # [B, M, decoder width]
        feature = self.feature.head(self.feature.norm(of_features))
        if rows is None or self.attention is None:
            return TECPrediction(feature)
        tokens = run_blocks(self.blocks[-1:], of_attention[0], slice(None))
        return TECPrediction(feature, self._asked_rows(self.attention, tokens, mask.restore, rows))

    def _branches(self) -> list[_Branch]:
        return [branch for branch in (self.feature, self.attention) if branch is not None]

    def _check_rows(self, rows: torch.Tensor | None) -> None:
        if self.attention is not None and rows is None:
            raise ConfigError('the attention branch needs to know which rows to predict; the base model has topk=None')

    def _asked_rows(
        self, branch: _Branch, tokens: torch.Tensor, restore: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Logits [B, 1 + K, H, L] from shuffled tokens of the blocks: queries of the rows, keys of patches only."""
        tokens = branch.norm(tokens)
        patches = take_tokens(tokens[:, 1:], restore)  # [B, L, decoder width], in the order of the image
        asking = torch.cat([tokens[:, :1], take_tokens(patches, rows)], dim=1)
        return attention_logits(branch.head, asking, patches, self.target_num_heads) * self.attention_scale


def attention_logits(head: nn.Linear, asking: torch.Tensor, patches: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Products of queries and keys, not scaled.

    Args:
        head: One layer for both, D -> 2 C, queries first, then keys.
        asking: [B, Q, D] tokens whose rows are wanted.
        patches: [B, L, D] tokens that are asked.
        num_heads: H, attention heads that share C.

    Returns:
        [B, Q, H, L].
    """
    weights, biases = head.weight.chunk(2), head.bias.chunk(2)
    heads = (num_heads, -1)
    query = F.linear(asking, weights[0], biases[0]).unflatten(-1, heads).transpose(1, 2)  # [B, H, Q, C / H]
    key = F.linear(patches, weights[1], biases[1]).unflatten(-1, heads).transpose(1, 2)  # [B, H, L, C / H]
    return (query @ key.transpose(-2, -1)).transpose(1, 2)
