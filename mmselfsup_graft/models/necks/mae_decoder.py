"""Decoder of masked auto-encoders."""

from typing import Any

import torch
from mmpretrain.models import MAEPretrainDecoder
from torch import nn

from mmselfsup_graft.checkpoints import sincos_table
from mmselfsup_graft.registry import MODELS

from ..blocks import EncoderBlock, run_blocks
from ..masking import PatchMask


@MODELS.register_module()
class MAEDecoder(MAEPretrainDecoder):
    """MAE's decoder with MAE's initialisation and position table.

    Args are those of :class:`mmpretrain.models.MAEPretrainDecoder`. Differs from it in the fixed position table (the
    library exchanges rows and columns), in the initialisation (Xavier for every linear layer, zero biases), and in that
    it can leave out what the loss does not read (:meth:`predict_hidden`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        EncoderBlock.adopt(self.decoder_blocks)

    def init_weights(self) -> None:
        """Initialise as published: Xavier-uniform linears, zero biases, mask token N(0, 0.02), MAE's table."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        side = int(self.num_patches**0.5)
        self.decoder_pos_embed.data.copy_(sincos_table((side, side), self.decoder_pos_embed.shape[-1]))
        nn.init.normal_(self.mask_token, std=0.02)

    def predict_hidden(self, tokens: torch.Tensor, mask: PatchMask) -> torch.Tensor:
        """Predict the hidden patches only: the rows of ``forward(tokens, mask.restore)`` at ``mask.hidden``.

        Attention knows no order, so tokens stay as they come, kept ones before hidden ones, each with its own position;
        the last block, norm and prediction leave out the visible ones.

        Args:
            tokens: [B, 1 + K, D] class token and kept patches, of the encoder.
            mask: Which patches these are.

        Returns:
            [B, L - K, P * P * C], in the order of ``mask.hidden``.
        """
        hidden = mask.hidden.shape[1]
        tokens = torch.cat([self.decoder_embed(tokens), self.mask_token.expand(len(tokens), hidden, -1)], dim=1)
        table = self.decoder_pos_embed
        positions = torch.cat([table[:, :1].expand(len(tokens), -1, -1), table[0, 1:][mask.order]], dim=1)
        tokens = run_blocks(self.decoder_blocks, tokens + positions, slice(-hidden, None))
        return self.decoder_pred(self.decoder_norm(tokens))
