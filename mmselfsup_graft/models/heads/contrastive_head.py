"""Predictor and contrastive loss of MoCo v3."""

import torch
from mmengine.model import BaseModule

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.losses import info_nce
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class ContrastiveHead(BaseModule):
    """Predict the other view's momentum feature and compare by InfoNCE (arXiv 2104.02057).

    Differs from mmpretrain's MoCoV3Head in that the loss stays in float32 under autocast.

    Args:
        predictor: Config of the predictor, a neck from [B, D] to [B, D].
        temperature: tau; the official ViT recipes use 0.2.

    Raises:
        ConfigError: If the temperature is not positive.
    """

    def __init__(self, predictor: dict, temperature: float = 0.2) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f'ContrastiveHead needs a temperature > 0, got {temperature}')
        self.predictor = MODELS.build(predictor)
        self.temperature = temperature

    def predict(self, projection: torch.Tensor) -> torch.Tensor:
        """Queries [B, D], not normalized, from projections [B, D]."""
        return self.predictor((projection,))[0]

    def loss(self, projection: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Loss of one direction; ``projection`` [B, D] of the trained encoder, ``keys`` [B, D] of the momentum one."""
        return self.compare(self.predict(projection), keys)

    def compare(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """The same from queries [B, D], as :meth:`predict` gives them."""
        return info_nce(queries, keys, self.temperature)
