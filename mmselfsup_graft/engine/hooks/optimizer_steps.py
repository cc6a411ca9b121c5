"""Steps of the optimizer, told to the parts of a model that count them."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmselfsup_graft.engine.run_parts import optim_wrappers, unwrapped_model
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import HOOKS


@HOOKS.register_module()
class OptimizerStepHook(Hook):
    """Tell parts of the model where the training is: the prototypes of SwAV.

    Works on every part with the methods ``begin_iteration(epoch, first)``, called before every iteration with the
    epoch from 0 and whether this micro-batch is the first of an optimizer step, and ``before_step()``, called between
    the last backward pass and the update.

    Raises:
        ConfigError: If the model has no such part.
    """

    priority = 'NORMAL'

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._handles: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Find the parts of the model, and watch the optimizer."""
        model = unwrapped_model(runner)
        self._parts = [part for part in model.modules() if hasattr(part, 'before_step')]
        if not self._parts:
            raise ConfigError(
                f'OptimizerStepHook: {type(model).__name__} has no part that counts steps; remove the hook '
                '(default_hooks.steps=None)'
            )
        first = optim_wrappers(runner.optim_wrapper)[0]
        self._handles.append(first.optimizer.register_step_pre_hook(self._before_step))

    def _before_step(self, *_: Any) -> None:
        for part in self._parts:
            part.before_step()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Tell the epoch, and whether a step begins."""
        first = runner.iter % optim_wrappers(runner.optim_wrapper)[0]._accumulative_counts == 0
        for part in self._parts:
            part.begin_iteration(runner.epoch, first)

    def after_train(self, runner: Runner) -> None:
        """Leave the optimizer alone."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
