"""The model without the wrapper for several processes."""

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


def unwrapped_model(runner: Runner) -> Any:
    """The runner's model without the wrapper that distributes it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
