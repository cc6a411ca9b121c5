"""What TEC puts behind an encoder that gives a feature map."""

import torch
from mmengine.model import BaseModule
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.losses import area_weights
from mmselfsup_graft.models.masking import take_tokens
from mmselfsup_graft.registry import MODELS

from .tec_decoder import ConditionalAdaptor, TECPrediction, attention_logits


@MODELS.register_module()
class TECMapNeck(BaseModule):
    """Predict a base model's targets from a feature map: an adaptor, and one linear layer per target.

    Of :class:`TECDecoder` (arXiv 2210.11016) it keeps the conditional adaptor, with the last map as its only chunk, and
    the layers that predict features, queries and keys. It has no decoder blocks, mask tokens or position table: the
    encoder has seen the whole grid, with a mask token in hidden places, so that one layer can predict from it (SimMIM,
    arXiv 2111.09886, section 3.3).

    Args:
        in_channels: D, channels of the map.
        target_dim: C, width of the base model.
        target_num_heads: H, attention heads of the base model.
        hidden_channels: Inside the adaptor's MLP.
        predict_attention: Whether rows of attention are predicted.
        attention_scale: Factor of predicted logits; None means ``C ** -0.5``, as in TEC.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: If H does not divide C, or a size is not positive.
    """

    def __init__(
        self,
        in_channels: int = 2048,
        target_dim: int = 768,
        target_num_heads: int = 12,
        hidden_channels: int = 2048,
        predict_attention: bool = True,
        attention_scale: float | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if min(in_channels, target_dim, target_num_heads, hidden_channels) < 1 or target_dim % target_num_heads:
            raise ConfigError(
                f'TECMapNeck: in_channels={in_channels}, target_dim={target_dim} and hidden_channels={hidden_channels} '
                f'must be at least 1, and target_num_heads={target_num_heads} must divide target_dim'
            )
        self.target_num_heads = target_num_heads
        self.attention_scale = target_dim**-0.5 if attention_scale is None else attention_scale
        self.adaptor = ConditionalAdaptor(in_channels, 1, 1, hidden_channels)
        self.feature = nn.Linear(in_channels, target_dim)
        self.attention = nn.Linear(in_channels, 2 * target_dim) if predict_attention else None

    def init_weights(self) -> None:
        """Xavier-uniform linears and zero biases, as in TEC."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, x: torch.Tensor, hidden: torch.Tensor, base_grid: tuple[int, int], rows: torch.Tensor | None = None
    ) -> TECPrediction:
        """Predict features of the masked positions, and the rows of attention over all positions.

        The query of the class token's row is the mean over the map, that of a patch the mean over its area.

        Args:
            x: [B, D, h, w] map with ``M = h * w`` positions.
            hidden: [B, M'] numbers of the masked positions, whose features are predicted.
            base_grid: Rows and columns of the base model's patches.
            rows: [B, K] patches of the base model whose attention is wanted, beside the class token's.

        Returns:
            Features [B, M', C] and logits [B, 1 + K, H, M].

        Raises:
            ConfigError: If attention is to be predicted and no rows are given.
        """
        adapted = self.adaptor(x.flatten(2).transpose(1, 2))  # [B, M, D]
        feature = self.feature(take_tokens(adapted, hidden))  # [B, M', C]
        if self.attention is None:
            return TECPrediction(feature)
        if rows is None:
            raise ConfigError('TECMapNeck needs to know which rows to predict; the base model has topk=None')
        area = area_weights((x.shape[2], x.shape[3]), base_grid, like=x)[rows].to(adapted.dtype)  # [B, K, M]
        asking = torch.cat([adapted.mean(1, keepdim=True), area @ adapted], dim=1)  # [B, 1 + K, D]
        logits = attention_logits(self.attention, asking, adapted, self.target_num_heads)
        return TECPrediction(feature, logits * self.attention_scale)
