"""Fine-tuning evaluates an exponential moving average of the weights."""

from typing import Any

import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import Runner
from torch import nn

from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import HOOKS


class RampedAverage(ExponentialMovingAverage):
    """mmengine's average whose decay grows to its value: ``decay * (start + (1 - start) min(1, steps / ramp))``.

    Args:
        model: The model to be averaged; its buffers are copied.
        decay: Share of the average that each update keeps, once the ramp is over.
        ramp: Length of the ramp in updates; 0 means none.
        start: Where the ramp starts.
    """

    def __init__(self, model: nn.Module, decay: float, ramp: float = 0, start: float = 0.9) -> None:
        super().__init__(model, momentum=1.0 - decay)
        self.decay, self.ramp, self.start = decay, ramp, start
        self._done: int | None = 0  # ``steps`` as a Python number; None: as loaded, not read yet

    def decay_at(self, steps: int) -> float:
        """Decay of the update after so many steps."""
        return self.decay * (1.0 if steps >= self.ramp else self.start + (1.0 - self.start) * steps / self.ramp)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the average; the first call copies the weights. The host never waits.

        Differs from mmengine, which reads the number of steps from the device and loops over tensors.
        """
        steps = int(self.steps) if self._done is None else self._done
        average: list[torch.Tensor] = list(self.module.parameters())
        current: list[torch.Tensor] = list(model.parameters())
        if steps == 0:
            torch._foreach_copy_(average, current)
        else:
            torch._foreach_lerp_(average, current, 1.0 - self.decay_at(steps))
        for ours, theirs in zip(self.module.buffers(), model.buffers()):
            ours.copy_(theirs)
        self.steps += 1
        self._done = steps + 1

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._done = None


@HOOKS.register_module()
class WeightAverageHook(EMAHook):
    """mmengine's EMA of the weights, with a ramp in epochs, as A2MIM's fine-tuning has it.

    Parameters are averaged, buffers (batch-norm statistics) copied. Validation and test run on the average; checkpoints
    hold it in ``state_dict`` and the trained weights in ``ema_state_dict``, so the best checkpoint holds the scored
    weights, and a resumed run continues with both.

    Args:
        decay: Share of the average that each update keeps.
        ramp_epochs: Number of epochs over which the decay grows from ``ramp_start`` times its value.
        ramp_start: See there.
        interval: Iterations between two updates; None: after every step of the optimizer.

    Raises:
        ConfigError: If decay or start are outside (0, 1), or a length is negative.
    """

    needs_whole_weights = True

    def __init__(
        self, decay: float = 0.9999, ramp_epochs: float = 0, ramp_start: float = 0.9, interval: int | None = None
    ) -> None:
        if not 0.0 < decay < 1.0 or not 0.0 <= ramp_start <= 1.0:
            raise ConfigError(
                f'WeightAverageHook: decay={decay} must be between 0 and 1, and ramp_start={ramp_start} in [0, 1]'
            )
        if ramp_epochs < 0 or (interval is not None and interval < 1):
            raise ConfigError(
                f'WeightAverageHook: ramp_epochs={ramp_epochs} must not be negative, interval={interval} at least 1'
            )
        super().__init__()
        self.decay, self.ramp_epochs, self.ramp_start, self.interval = decay, ramp_epochs, ramp_start, interval

    def before_run(self, runner: Runner) -> None:
        """Make the average; it starts at the weights of the first update."""
        options: dict[str, Any] = {'decay': self.decay, 'start': self.ramp_start}
        if runner._train_loop is not None and not isinstance(runner._train_loop, dict):
            self.every = self.interval or runner.optim_wrapper._accumulative_counts
            options['ramp'] = self.ramp_epochs * len(runner.train_dataloader) / self.every
        self.src_model = unwrapped_model(runner)
        self.ema_model = RampedAverage(self.src_model, **options)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Average if the optimizer has just made a step, not between accumulated batches."""
        if (runner.iter + 1) % self.every == 0 or runner.iter + 1 == runner.max_iters:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
