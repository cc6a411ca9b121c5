"""Hook that stops a run with non-finite values before they are saved."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmselfsup_graft.engine.execution.sharding import is_sharded
from mmselfsup_graft.engine.hooks.random_state import seed_iteration
from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import ConfigError, GraftError
from mmselfsup_graft.registry import HOOKS

from .kept_batch import KeptBatch
from .origin import NonFiniteOrigin, find_nonfinite, nonfinite_names
from .step_guard import HostTransfer, StepGuard

_INFO = 'skipped_steps'  # key in the message hub, saved in checkpoints: iterations whose step was left out


@dataclass
class _Fault:
    """An iteration whose loss or gradient was not finite.

    Attributes:
        batch: The training batch.
        loss: Its loss.
        norm: Norm of its gradients.
        step: Number of the optimizer step that it belongs to, counted from the start of this process.
    """

    batch: KeptBatch
    loss: float
    norm: float
    step: int

    def __str__(self) -> str:
        if math.isfinite(self.loss):
            return f'the gradient became {self.norm} at iteration {self.batch.iteration} (loss {self.loss:g})'
        return f'the loss became {self.loss} at iteration {self.batch.iteration}'


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop at the first loss or gradient that is not finite, report its origin and save the batch.

    The loss and the norm of the gradients are checked in every iteration, on the device. Both are sent to the host
    without waiting (:class:`HostTransfer`), so no step reads the device, and they are known one or two iterations
    later; batches are held until then. Checking only the next loss would save the norm, which
    is less than 1 % of a step, but lose the weights and, with accumulated gradients, the batch. A fused optimizer
    leaves the bad step out (:class:`StepGuard`), so the weights stay sound, and the batch is run once more to find the
    module where NaN or infinity appeared first (:func:`mmselfsup_graft.analysis.find_nonfinite`).

    Nothing that is not finite is saved: before each checkpoint all results are collected, and parameters, batch-norm
    statistics, averages of the weights and optimizer state are checked. A checkpoint of an older version that has such
    weights is refused when a run is resumed from it.

    A single process stops as soon as a result arrives. Several agree every ``interval`` iterations, before a checkpoint
    and at the end; the process with the fault saves its batch.

    Args:
        interval: Iterations between two agreements of several processes.
        skip_nonfinite: Number of steps with such a loss or gradient to leave out before the run stops, resumed parts
            included. They are logged, counted in ``history.jsonl`` and ``progress.json``, and change neither weights
            nor optimizer state nor batch-norm statistics; the schedules advance. With accumulated gradients the whole
            step is left out. Optimizers that are not fused then read the device once per step.

    Raises:
        GraftError: At such a loss, gradient or weight. The batch is saved in ``nonfinite_batch.pth`` of the work
            directory: ``inputs`` (and ``augment``, the operations left to the device), ``iter``, ``images`` (names,
                where known),
            ``loss``, ``grad_norm`` and ``found`` in words.
        ConfigError: For ``skip_nonfinite`` with a sharded model or an optimizer wrapper of another library.
    """

    priority = 'ABOVE_NORMAL'  # before averages of the weights are updated, and before history and checkpoint

    def __init__(self, interval: int = 50, skip_nonfinite: int = 0) -> None:
        if isinstance(skip_nonfinite, bool) or not isinstance(skip_nonfinite, int) or skip_nonfinite < 0:
            raise ConfigError(f'NonFiniteLossHook: skip_nonfinite must be a whole number >= 0, got {skip_nonfinite!r}')
        self.interval, self.skip = interval, skip_nonfinite
        self._reset()

    def _reset(self) -> None:
        self._mail = HostTransfer()
        self._held: dict[int, tuple[KeptBatch, int]] = {}
        self._faults: list[_Fault] = []
        self._guard: StepGuard | None = None
        self._statistics: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._step = 0  # optimizer steps made before this iteration
        self._last_skipped: int | None = None  # number of the step

    # ---------------------------------------------------------------- a run
    def before_train(self, runner: Runner) -> None:
        """Check the weights that the run starts from, and start the checks."""
        model = unwrapped_model(runner)
        names = nonfinite_names(model.named_parameters())
        if self._any_process(bool(names)):
            source = getattr(runner, '_load_from', None) or 'the model'
            what = names[0] if names else 'a parameter on another process'
            raise GraftError(f'{source} holds NaN or infinity in {what}; start from an earlier checkpoint')
        self._reset()
        if hasattr(runner.optim_wrapper, 'optimizer'):
            self._guard = StepGuard(runner.optim_wrapper, skip=self.skip > 0)
        if self.skip:
            self._prepare_skipping(runner, model)

    def _prepare_skipping(self, runner: Runner, model: nn.Module) -> None:
        if is_sharded(model) or not hasattr(runner.optim_wrapper, 'spread_nonfinite'):
            raise ConfigError(
                'NonFiniteLossHook: skip_nonfinite needs whole gradients and an OptimWrapper of this toolbox; '
                'leave out the option, or model_wrapper_cfg'
            )
        runner.optim_wrapper.spread_nonfinite = True
        buffers = [tensor for _, tensor in _statistics(model)]
        self._statistics = [(tensor, tensor.clone()) for tensor in buffers]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Save batch-norm statistics, if the step may be left out."""
        self._step = self._guard.steps if self._guard else 0
        for tensor, before in self._statistics:
            before.copy_(tensor)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Send loss and norm of the gradients to the host; check the results that have arrived."""
        if outputs is None:
            return
        loss = torch.as_tensor(outputs['loss']).detach().float().reshape(())
        norm = self._guard.take_norm() if self._guard else None
        norm = torch.zeros_like(loss) if norm is None else norm.detach().to(loss)
        sound = torch.isfinite(loss) & torch.isfinite(norm)
        for tensor, before in self._statistics:
            tensor.copy_(torch.where(sound, tensor, before))
        self._held[runner.iter] = KeptBatch(runner.iter, runner.epoch, batch_idx, data_batch), self._step
        self._mail.send(runner.iter, torch.stack([loss, norm]))
        self._receive(runner, wait=False)
        if runner.world_size == 1 or self.every_n_train_iters(runner, self.interval):
            self._look(runner)

    def before_checkpoint(self, runner: Runner) -> None:
        """Check everything that will be saved; all processes call it."""
        if self._guard is None:
            return
        self._receive(runner, wait=True)
        self._look(runner)
        names = nonfinite_names(_saved(runner))
        if self._any_process(bool(names)):
            what = names[0] if names else 'a tensor of another process'
            raise GraftError(
                f'{what} holds NaN or infinity after iteration {runner.iter}, though no loss or gradient did; the '
                f'checkpoint is not written. {_advice(runner)}'
            )

    def after_train(self, runner: Runner) -> None:
        """Check the last iterations and stop."""
        self._receive(runner, wait=True)
        self._look(runner)
        if self._guard:
            self._guard.close()
        self._reset()

    # ---------------------------------------------------------------- faults
    def _receive(self, runner: Runner, wait: bool) -> None:
        """Sort the results into finite iterations, steps left out and faults."""
        for iteration, (loss, norm) in self._mail.arrived(wait):
            batch, step = self._held.pop(iteration)
            if math.isfinite(loss) and math.isfinite(norm):
                continue
            fault = _Fault(batch, loss, norm, step)
            if not self._skipped(runner, fault):
                self._faults.append(fault)

    def _skipped(self, runner: Runner, fault: _Fault) -> bool:
        """Count a step that was left out; False if there are too many."""
        if not self.skip:
            return False
        counted = list(runner.message_hub.runtime_info.get(_INFO, []))
        if fault.step != self._last_skipped:
            if len(counted) >= self.skip:
                return False
            counted.append(fault.batch.iteration)
            runner.message_hub.update_info(_INFO, counted)
            self._last_skipped = fault.step
            runner.logger.warning(f'{fault}: the step is left out ({len(counted)} of at most {self.skip})')
        return True

    def _look(self, runner: Runner) -> None:
        """Stop all processes if one of them met a fault."""
        first = min((fault.batch.iteration for fault in self._faults), default=math.inf)
        if runner.world_size > 1:
            shared = torch.tensor(first, dtype=torch.float64)
            all_reduce(shared, 'min')
            first = float(shared)
        if first == math.inf:
            return
        own = next((fault for fault in self._faults if fault.batch.iteration == first), None)
        found = self._origin(runner, own)
        # the process where it appeared first; if unknown, one whose loss is not finite, as gradients are shared
        place = (own is None, math.inf if found is None else found.order, own is None or math.isfinite(own.loss))
        places = all_gather_object(place)
        rank = min(range(len(places)), key=places.__getitem__)
        message = self._keep_and_describe(runner, own, found) if rank == runner.rank and own is not None else ''
        raise GraftError(all_gather_object(message)[rank])

    def _origin(self, runner: Runner, fault: _Fault | None) -> NonFiniteOrigin | None:
        """Find where the value appeared first by running the batch again; on all processes or none."""
        if self._any_process(fault is None) or fault is None or is_sharded(unwrapped_model(runner)):
            return None
        model, wrapper = unwrapped_model(runner), runner.optim_wrapper

        def compute_loss() -> torch.Tensor:
            seed_iteration(runner.seed, runner.rank, fault.batch.iteration)
            with wrapper.optim_context(model):
                data = model.data_preprocessor(fault.batch.data, True)
                loss = model.parse_losses(model._run_forward(data, mode='loss'))[0]
            scaler = getattr(wrapper, 'loss_scaler', None)
            return loss if scaler is None else scaler.scale(loss)

        try:
            return find_nonfinite(model, compute_loss)
        except Exception as error:  # the fault must be reported even if this fails
            runner.logger.warning(f'running the batch again failed: {error}')
            return None

    def _keep_and_describe(self, runner: Runner, fault: _Fault, found: NonFiniteOrigin | None) -> str:
        where = None if found is None else found.where
        kept = fault.batch.keep(runner, loss=fault.loss, grad_norm=fault.norm, found=where)
        process = f' on process {runner.rank}' if runner.world_size > 1 else ''
        origin = f'first in {where}' if where else 'its first place was not found by running the batch again'
        limit = f', after {self.skip} steps that were left out' if self.skip else ''
        return f'{fault}{process}{limit}; {origin}; {kept}. {_advice(runner)}'

    @staticmethod
    def _any_process(here: bool) -> bool:
        flag = torch.tensor(float(here))
        all_reduce(flag, 'max')
        return bool(flag)


def _advice(runner: Runner) -> str:
    from mmselfsup_graft.engine.runners.graft_runner import latest_checkpoint

    newest = latest_checkpoint(runner.work_dir)
    start = f'Resume from {newest}' if newest else 'There is no earlier checkpoint; start again'
    return (
        f'{start}, with a lower learning rate, clipped gradients, float32 (optim_wrapper.dtype=float32), or '
        'default_hooks.nonfinite.skip_nonfinite=N to leave out up to N such steps'
    )


def _statistics(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Running statistics of normalization layers."""
    return [(n, b) for n, b in model.named_buffers() if n.rpartition('.')[2] in ('running_mean', 'running_var')]


def _saved(runner: Runner) -> list[tuple[str, torch.Tensor]]:
    """Tensors that a checkpoint will hold, by name."""
    model = unwrapped_model(runner)
    parameters = list(model.named_parameters())
    named: list[tuple[str, torch.Tensor]] = [*parameters, *_statistics(model)]
    state = runner.optim_wrapper.optimizer.state
    for name, parameter in parameters:
        moments = state.get(parameter, {}).items()
        named += [(f'{key} of {name} in the optimizer', m) for key, m in moments if isinstance(m, torch.Tensor)]
    for hook in runner.hooks:
        average = getattr(hook, 'ema_model', None)
        if isinstance(average, nn.Module):
            named += [(f'the average of {name}', value) for name, value in average.named_parameters()]
    return named
