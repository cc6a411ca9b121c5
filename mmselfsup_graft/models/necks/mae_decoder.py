"""Decoder of masked auto-encoders."""

from typing import Any

import torch
from mmpretrain.models import MAEPretrainDecoder
from torch import nn

from mmselfsup_graft.checkpoints import sincos_table
from mmselfsup_graft.models.blocks import EncoderBlock, run_blocks
from mmselfsup_graft.models.masking import PatchMask, take_tokens
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class MAEDecoder(MAEPretrainDecoder):
    """MAE's decoder with MAE's initialization and position table; it predicts the hidden patches (arXiv 2111.06377).

    Differs from mmpretrain's in the fixed position table (the library exchanges rows and columns), in the
    initialization (Xavier for every linear layer, zero biases), and in what it computes: attention knows no order, so
    tokens stay in the order of the encoder, kept patches before hidden ones, each with its own position; the last
    block, the norm and the prediction leave out what is not asked for.

    Args:
        decoder_embed_dim: Width D of the decoder.
        decoder_depth: Number of blocks.
        decoder_num_heads: Attention heads.
        mlp_ratio: Width inside the MLPs, in D.
        norm_cfg: Norm layers; None means ``LN`` with an eps of 1e-6.
        **kwargs: ``num_patches``, ``patch_size``, ``in_chans``, ``embed_dim`` and the rest of
            :class:`mmpretrain.models.MAEPretrainDecoder`.
    """

    def __init__(
        self,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        mlp_ratio: float = 4,
        norm_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        norm_cfg = norm_cfg or dict(type='LN', eps=1e-6)
        # the blocks are of our own class: the parent builds none
        super().__init__(decoder_embed_dim=decoder_embed_dim, decoder_depth=0, norm_cfg=norm_cfg, **kwargs)
        sizes = (decoder_embed_dim, decoder_num_heads, int(mlp_ratio * decoder_embed_dim))
        self.decoder_blocks = nn.ModuleList(EncoderBlock(*sizes, norm_cfg=norm_cfg) for _ in range(decoder_depth))

    def init_weights(self) -> None:
        """Initialize as published: Xavier-uniform linears, zero biases, mask token N(0, 0.02), MAE's table."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        side = int(self.num_patches**0.5)
        self.decoder_pos_embed.data.copy_(sincos_table((side, side), self.decoder_pos_embed.shape[-1]))
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: torch.Tensor, mask: PatchMask) -> torch.Tensor:
        """Predict the hidden patches.

        Args:
            tokens: [B, 1 + K, D] class token and kept patches, of the encoder.
            mask: Which patches these are.

        Returns:
            [B, L - K, P * P * C], in the order of ``mask.hidden``.
        """
        hidden = slice(-mask.hidden.shape[1], None)
        return self._predict(run_blocks(self.decoder_blocks, self._complete(tokens, mask), hidden))

    def predict_all(self, tokens: torch.Tensor, mask: PatchMask) -> torch.Tensor:
        """Predict all patches, [B, L, P * P * C] in the order of the image; arguments as of :meth:`forward`."""
        patches = run_blocks(self.decoder_blocks, self._complete(tokens, mask), slice(1, None))
        return take_tokens(self._predict(patches), mask.restore)

    def _complete(self, tokens: torch.Tensor, mask: PatchMask) -> torch.Tensor:
        """Class token, kept patches, then mask tokens, with positions: [B, 1 + L, D]."""
        count = mask.hidden.shape[1]
        tokens = torch.cat([self.decoder_embed(tokens), self.mask_token.expand(len(tokens), count, -1)], dim=1)
        table = self.decoder_pos_embed  # [1, 1 + L, D]
        positions = torch.cat([table[:, :1].expand(len(tokens), -1, -1), table[0, 1:][mask.order]], dim=1)
        return tokens + positions

    def _predict(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.decoder_pred(self.decoder_norm(tokens))
