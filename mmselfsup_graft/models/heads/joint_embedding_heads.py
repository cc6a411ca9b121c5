"""Heads of joint-embedding methods: losses of two projections, without parameters of their own."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.losses import nt_xent, vicreg
from mmselfsup_graft.registry import MODELS


@MODELS.register_module()
class NTXentHead(BaseModule):
    """SimCLR's loss (arXiv 2002.05709), see :func:`mmselfsup_graft.models.losses.nt_xent`.

    Args:
        temperature: tau.

    Raises:
        ConfigError: If the temperature is not positive.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f'NTXentHead needs a temperature > 0, got {temperature}')
        self.temperature = temperature

    def loss(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Loss of projections [B, D] of both views."""
        return nt_xent(first, second, self.temperature)


@MODELS.register_module()
class VICRegHead(BaseModule):
    """VICReg's loss (arXiv 2105.04906), see :func:`mmselfsup_graft.models.losses.vicreg`.

    The variance term does nothing behind a projector that ends in batch norm, as the official Layer Grafted option
    has it (specification, section 1): every dimension then has variance 1 already.

    Args:
        weights: Of invariance, variance and covariance.

    Raises:
        ConfigError: If there are not three weights.
    """

    def __init__(self, weights: Sequence[float] = (25.0, 25.0, 1.0)) -> None:
        super().__init__()
        if len(weights) != 3:
            raise ConfigError(f'VICRegHead takes three weights (invariance, variance, covariance), got {weights}')
        self.weights = (weights[0], weights[1], weights[2])

    def loss(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Loss of projections [B, D] of both views."""
        return vicreg(first, second, self.weights)
