"""Decoder of masked auto-encoders."""

from mmpretrain.models import MAEPretrainDecoder
from torch import nn

from mmselfsup_graft.checkpoints import sincos_table
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class MAEDecoder(MAEPretrainDecoder):
    """MAE's decoder with MAE's initialisation and position table.

    Args are those of :class:`mmpretrain.models.MAEPretrainDecoder`. Differs from it in the fixed position table (the
    library exchanges rows and columns) and in the initialisation (Xavier for every linear layer, zero biases).
    """

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
