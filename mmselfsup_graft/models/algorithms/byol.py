"""BYOL: a prediction of a momentum encoder's projection of the other view, without negatives."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.fitting import EncoderSizes, fit
from mmselfsup_graft.models.losses import at_least_float32
from mmselfsup_graft.models.momentum import MomentumEncoder
from mmselfsup_graft.registry import MODELS

from .two_views import TwoViewAlgorithm, predict_views, project_views


@MODELS.register_module()
class BYOL(TwoViewAlgorithm):
    """Bootstrap your own latent (Grill et al., arXiv 2006.07733).

    With encoder f, projector g, predictor q (the head), and the moving averages f' and g' of the first two::

        p1, p2 = q(g(f(x1))), q(g(f(x2)))
        t1, t2 = g'(f'(x1)), g'(f'(x2))
        loss = distance(p1, t2) + distance(p2, t1)

    Differs from the released code in that f' and g' are updated before the targets are computed instead of after the
    optimizer's step: the targets are the same, with the momentum of this iteration instead of the one before.

    Args:
        base_momentum: Momentum (the paper's tau) of the moving average, in [0, 1].
        **kwargs: See :class:`SelfSupAlgorithm`.

    Raises:
        ConfigError: If the momentum is outside [0, 1].
    """

    def __init__(self, base_momentum: float = 0.996, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= base_momentum <= 1:
            raise ConfigError(f'BYOL: base_momentum must lie in [0, 1], got {base_momentum}')
        self.base_momentum = base_momentum
        self.momentum = base_momentum
        self.update_due = True
        self.momentum_encoder = MomentumEncoder(self.backbone, self.neck)

    def loss(self, inputs: Sequence[torch.Tensor], data_samples: Any = None) -> dict[str, torch.Tensor]:
        """Symmetric loss of the two views in ``inputs``, each [B, C, H, W]; labels play no part.

        Raises:
            ConfigError: See :meth:`check_views`.
        """
        self.check_views(inputs)
        p1, p2 = predict_views(self.head, self.project(inputs))  # [B, D] each
        t1, t2 = self.targets(inputs)  # [B, D] each
        return self.add_l1({'loss': distance(p1, t2) + distance(p2, t1)})

    @torch.no_grad()
    def targets(self, views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """``g'(f'(x))``, [B, D], of every view, constant; f' and g' are updated first if that is due."""
        if self.training and self.update_due:
            self.update_momentum()
        return project_views(self.momentum_encoder.backbone, self.momentum_encoder.neck, views)

    def update_momentum(self) -> None:
        """``theta' <- m theta' + (1 - m) theta`` for the parameters of f' and g'."""
        self.momentum_encoder.update(self.backbone, self.neck, self.momentum)

    def after_graft(self) -> None:
        """Start f' and g' as copies of f and g, grafted or fresh."""
        super().after_graft()
        self.momentum_encoder.copy_from(self.backbone, self.neck)

    def train(self, mode: bool = True) -> 'BYOL':
        """Set train mode; what is frozen stays in eval mode, in the momentum encoder too."""
        super().train(mode)
        if mode:
            self._frozen_to_eval(self.momentum_encoder.backbone)
        return self

    def fit_parts(self, sizes: EncoderSizes, neck: Any, head: Any) -> tuple[Any, Any]:
        """The predictor maps projections to projections."""
        neck, head = super().fit_parts(sizes, neck, head)
        width = neck.get('out_channels') if isinstance(neck, Mapping) else None
        follows = {} if width is None else {'in_channels': width, 'out_channels': width}
        return neck, fit('BYOL', 'head', head, follows)


def distance(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """``2 - 2 cos(p, t)``, mean over the batch (equation 2), in float32 at least.

    Over ranks: the local mean; averaging the ranks' values equals one process on the joined batch.

    Args:
        prediction: [B, D], not normalized; gradients flow through this only.
        target: [B, D], constant.

    Returns:
        Scalar in [0, 4].
    """
    with torch.autocast(prediction.device.type, enabled=False):
        p, t = at_least_float32(prediction), at_least_float32(target.detach())
        return 2 - 2 * F.cosine_similarity(p, t, dim=1).mean()
