"""Head of TEC."""

import torch
from mmengine.model import BaseModule

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.backbones.tec_vit import Targets
from mmselfsup_graft.models.losses import attention_row_loss, hidden_feature_loss
from mmselfsup_graft.models.necks.tec_decoder import TECPrediction
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class TECHead(BaseModule):
    """Compare predicted features and attention rows with those of the base model (arXiv 2210.11016).

    Args:
        tau: Temperature of the base model's attention.
        feature_weight: Factor of the feature loss.
        attention_weight: Factor of the attention loss.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: If the temperature is not positive or a weight negative.
    """

    def __init__(
        self,
        tau: float = 1.8,
        feature_weight: float = 1.0,
        attention_weight: float = 1.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if tau <= 0:
            raise ConfigError(f'TECHead: tau must be positive, got {tau}')
        if min(feature_weight, attention_weight) < 0:
            raise ConfigError('TECHead: weights of losses must not be negative')
        self.tau, self.feature_weight, self.attention_weight = tau, feature_weight, attention_weight

    def loss(
        self, prediction: TECPrediction, targets: Targets, hidden: torch.Tensor, pool: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """``loss_feature`` and, with the attention branch, ``loss_attention``.

        Args:
            prediction: Features of the hidden patches, and attention rows.
            targets: Of the base model.
            hidden: [B, M] numbers of the hidden patches.
            pool: Weights of :func:`area_weights` that average the targets to the grid of the predictions; None if
                both have one grid, that of the base model's patches.
        """
        feature = hidden_feature_loss(prediction.feature, targets.feature, hidden, pool)
        losses = {'loss_feature': self.feature_weight * feature}
        if prediction.attention is not None and targets.attention is not None:
            attention = attention_row_loss(prediction.attention, targets.attention, self.tau, pool)
            losses['loss_attention'] = self.attention_weight * attention
        return losses
