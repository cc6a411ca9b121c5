"""What the golden tests share."""

from collections.abc import Iterator
from typing import Any

import pytest
import reference
import reference.tec as reference_tec
import torch


@pytest.fixture(scope='module', params=[False, True], ids=['package', 'reference'])
def both_forms(request: pytest.FixtureRequest) -> Iterator[None]:
    """The losses of the package, then those of the slow forms in ``tests/reference``."""
    from mmselfsup_graft.models import MAE, TEC, MoCoV3

    def losses(model: Any, inputs: Any, data_samples: Any = None, noise: Any = None) -> dict[str, torch.Tensor]:
        return reference.losses(model, inputs, noise=noise)

    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            patch.setattr(MAE, 'loss', losses)
            patch.setattr(MoCoV3, 'loss', losses)
            patch.setattr(TEC, 'masked_losses', reference_tec.masked_losses)
        yield
