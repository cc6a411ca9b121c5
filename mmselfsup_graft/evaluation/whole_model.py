"""A complete pre-training model from its config and one of its checkpoints."""

from pathlib import Path

import torch
from mmengine.config import Config

from mmselfsup_graft.checkpoints import check_fit, read_state
from mmselfsup_graft.registry import MODELS

from .encoders import preprocessing


def load_model(cfg: Config, checkpoint: Path) -> torch.nn.Module:
    """The whole model of a config with the weights of one of its own checkpoints, in eval mode."""
    # all weights are in the checkpoint: no graft
    options = {'graft': None, 'data_preprocessor': preprocessing(cfg)}
    options |= {key: None for key in ('l1_distance',) if key in cfg.model}
    model = MODELS.build({**cfg.model, **options})
    state = read_state(checkpoint)
    check_fit(checkpoint, state, model.state_dict())
    model.load_state_dict(state)
    return model.eval()
