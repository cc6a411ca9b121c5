"""BYOL: a prediction of a momentum encoder's projection of the other view, without negatives."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from mmselfsup_graft.models.losses import at_least_float32
from mmselfsup_graft.registry import MODELS

from .two_views import MomentumTwoViewAlgorithm, predict_views


@MODELS.register_module()
class BYOL(MomentumTwoViewAlgorithm):
    """Bootstrap your own latent (Grill et al., arXiv 2006.07733).

    With encoder f, projector g, predictor q (the head), and the moving averages f' and g' of the first two::

        p1, p2 = q(g(f(x1))), q(g(f(x2)))
        t1, t2 = g'(f'(x1)), g'(f'(x2))
        loss = distance(p1, t2) + distance(p2, t1)

    ``base_momentum`` is the paper's tau: 0.99 for 300 epochs, 0.996 for 1000. Differs from the released code in that
    f' and g' are updated before the targets are computed, with the momentum of this iteration, instead of after the
    optimizer's step, with that of the iteration before.

    Args:
        **kwargs: See :class:`MomentumTwoViewAlgorithm`.
    """

    def loss(self, inputs: Sequence[torch.Tensor], data_samples: Any = None) -> dict[str, torch.Tensor]:
        """Symmetric loss of the two views in ``inputs``, each [B, C, H, W]; labels play no part.

        Raises:
            ConfigError: See :meth:`check_views`.
        """
        self.check_views(inputs)
        p1, p2 = predict_views(self.head, self.project(inputs))  # [B, D] each
        t1, t2 = self.keys(inputs)  # [B, D] each
        return self.add_l1({'loss': distance(p1, t2) + distance(p2, t1)})


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
