"""The model of a training config with fresh weights, for looking at what a step does."""

from typing import Any

from mmengine.config import Config

from mmselfsup_graft.evaluation.encoders import preprocessing
from mmselfsup_graft.registry import MODELS

_FILES = ('graft', 'l1_distance', 'base_checkpoint')  # what a model would read, or compare with


def fresh_model(cfg: Config) -> Any:
    """Build the model on the CPU, in training mode, without the files that it starts from, before its first step."""
    without = {key: None for key in _FILES if key in cfg.model}
    model: Any = MODELS.build({**cfg.model, 'data_preprocessor': preprocessing(cfg), **without})
    for part in model.modules():
        if hasattr(part, 'begin_iteration'):  # what OptimizerStepHook tells before every iteration
            part.begin_iteration(epoch=0, first=True)
    return model.train()
