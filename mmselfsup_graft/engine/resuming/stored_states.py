"""Counters, weights, log and schedules of a training checkpoint, compared with the run that is to take them."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.optim import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.distributed.tensor import DTensor

from mmselfsup_graft.checkpoints.finite_values import buffer_problem, is_finite
from mmselfsup_graft.errors import CheckpointError

from .latest import LONGEST
from .stored_values import kind_of, kind_problem, tensor_problem

_NEEDED = ('meta', 'state_dict')


def training_content(content: Mapping[str, Any], filename: str, optimizer: bool = True) -> None:
    """Raise an error if a file is not a complete checkpoint of a training run.

    Args:
        content: What the file holds, as plain data.
        filename: For the message.
        optimizer: Whether the run keeps the optimizer in its checkpoints.

    Raises:
        CheckpointError: With advice, as such a file often holds weights to start from.
    """
    meta = content.get('meta')
    missing = [key for key in _NEEDED if not isinstance(content.get(key), dict)]
    if isinstance(meta, dict):
        missing += [f'meta.{name}' for name in ('epoch', 'iter') if name not in meta]
    if optimizer and 'optimizer' not in content:
        missing.append('optimizer')
    if missing:
        raise CheckpointError(
            f'{filename} cannot be resumed: it is not a checkpoint of a training run (no {", ".join(missing)}), but '
            'weights at most. To start from its weights, leave out --resume and give it in '
            'model.graft=[dict(checkpoint=FILE)], or as --pretrained FILE for detectors and segmentors'
        )
    stop = content['meta'].get('preempted')
    whole = isinstance(stop, dict) and set(stop) == {'in_validation'} and isinstance(stop['in_validation'], bool)
    if stop is not None and not whole:
        raise CheckpointError(
            f"{filename} cannot be resumed: its meta.preempted is {kind_of(stop)}, expected {{'in_validation': True or "
            'False}; the file is damaged, resume from another one'
        )


def stored_counters(meta: Mapping[str, Any], loop: Any, filename: str, same_length: bool = True) -> tuple[int, int]:
    """Epoch and iteration of a checkpoint.

    Args:
        meta: Of the file.
        loop: Training loop of the run.
        filename: For the message.
        same_length: Whether the epochs of the file have as many iterations as those of the run.

    Raises:
        CheckpointError: If they are not whole numbers, are beyond the end of the run, or the iteration is not in that
            epoch.
    """
    for name in ('epoch', 'iter'):
        value = meta[name]
        if type(value) is not int or not 0 <= value < LONGEST:
            raise CheckpointError(
                f'{filename} cannot be resumed: its {name} is {kind_of(value)}, expected a whole number from 0; the '
                'file is damaged, resume from another one'
            )
    epoch, iteration = meta['epoch'], meta['iter']
    longest = loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else LONGEST
    for name, value, most in (('epoch', epoch, longest), ('iteration', iteration, loop.max_iters)):
        if value > most and (same_length or name == 'epoch'):
            raise CheckpointError(
                f'{filename} cannot be resumed: its {name} {value} is beyond the end of this run, {most}. Set a '
                'longer run, use the data and batch of the first start, or resume from another checkpoint'
            )
    if same_length and isinstance(loop, EpochBasedTrainLoop):
        length = len(loop.dataloader)
        if not epoch * length <= iteration <= (epoch + 1) * length:
            raise CheckpointError(
                f'{filename} cannot be resumed: its iteration {iteration} is not in its epoch {epoch}, as an epoch has '
                f'{length} iterations in this run. Another data set, batch or number of processes, or a damaged file'
            )
    elif epoch > iteration:
        raise CheckpointError(
            f'{filename} cannot be resumed: its epoch {epoch} is beyond its iteration {iteration}; the file is '
            'damaged, resume from another one'
        )
    return epoch, iteration


def check_state(
    state: Any, wanted: Mapping[str, torch.Tensor], filename: str, exact: bool, finite: Iterable[str] = ()
) -> None:
    """Compare the tensors of a file with those of a model that must take all of them.

    Args:
        state: State dict of the file.
        wanted: State dict of the model.
        filename: For the message.
        exact: Whether the types of the numbers must be equal, or floating-point types may differ.
        finite: Names of tensors that must be finite; all others if those of the model are.

    Raises:
        CheckpointError: If one is missing, unknown to the model, or of another kind, shape or type.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(f'{filename} does not fit this model: its weights are {kind_of(state)}, expected a dict')
    known, finite = set(wanted), set(finite)
    problems = [f'{name} is missing' for name in wanted if name not in state]
    problems += [f'{name} is not in the model' for name in state if name not in known]
    for name, own in wanted.items():
        if name in state:
            must = name in finite or (own.is_floating_point() and not isinstance(own, DTensor) and is_finite(own))
            problem = tensor_problem(state[name], own, finite=must, exact=exact)
            problem = problem or buffer_problem(name, state[name], own) or None
            if problem is not None:
                problems.append(f'{name} {problem.replace("the run has", "the model has")}')
    if problems:
        more = f' and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise CheckpointError(f'{filename} does not fit this model: {"; ".join(problems[:3])}{more}')


def average_steps(content: Mapping[str, Any]) -> int | None:
    """Number of updates of the weight average in a checkpoint; None if there is no average, or it does not count."""
    steps = content.get('ema_state_dict', {}).get('steps')
    return None if steps is None else int(steps)


def check_averages(content: Mapping[str, Any], hooks: Iterable[Any], filename: str, model: nn.Module) -> None:
    """Compare the weight average of a file with that of the run's hook, if it has one.

    Its number of updates is compared with that in the file's meta. It does not follow from the iteration: a run that
    was resumed with another batch restarts its iterations.

    Args:
        content: Of the file.
        hooks: Of the run.
        filename: For the message.
        model: Of the run.

    Raises:
        CheckpointError: If it does not fit, its number of updates differs from that in meta (in files of older
            versions: is impossible), or only one of the two has an average.
    """
    averages = [hook.ema_model for hook in hooks if isinstance(getattr(hook, 'ema_model', None), nn.Module)]
    if averages and 'ema_state_dict' not in content:
        raise CheckpointError(
            f'{filename} cannot be resumed: it has no average of the weights (ema_state_dict), this run keeps one'
        )
    if not averages and 'ema_state_dict' in content:
        raise CheckpointError(
            f'{filename} cannot be resumed: it has an average of the weights (ema_state_dict), for which this run has '
            'no hook; resume with the config of the first start'
        )
    for average in averages:
        names = [f'module.{name}' for name, _ in model.named_parameters()]
        check_state(content['ema_state_dict'], average.state_dict(), f'the average in {filename}', True, names)
    if averages:
        _check_average_steps(content, filename)


def _check_average_steps(content: Mapping[str, Any], filename: str) -> None:
    # the decay is computed from the number of steps, and an average of none is replaced by the weights
    steps, meta = average_steps(content), content['meta']
    if 'average_steps' in meta:
        wanted = meta['average_steps']
        if type(wanted) is not int or steps != wanted:
            raise CheckpointError(
                f'{filename} cannot be resumed: the average of the weights has {steps} steps, expected '
                f'{kind_of(wanted)} (meta.average_steps); the file is damaged, resume from another one'
            )
    elif steps is not None and not 0 <= steps <= LONGEST:
        raise CheckpointError(
            f'{filename} cannot be resumed: the average of the weights has {steps} steps, expected 0 to {LONGEST}; '
            'the file is damaged, resume from another one'
        )


# ---------------------------------------------------------------- schedules
def check_schedules(
    saved: Any, own: list[_ParamScheduler], filename: str, epoch: int, iteration: int, stepped: bool
) -> None:
    """Compare the states of parameter schedules with those of the run's.

    Args:
        saved: List of states of a file.
        own: Schedules of the run, as many.
        filename: For the message.
        epoch, iteration: Position of the checkpoint.
        stepped: Whether the run steps its schedules; then each must be at the checkpoint's position.

    Raises:
        CheckpointError: If a value is of another kind, or at another position.
    """
    for number, (state, scheduler) in enumerate(zip(saved, own)):
        where = f'{filename} cannot be resumed: in the state of schedule {number} ({type(scheduler).__name__})'
        mine = scheduler.state_dict()
        if not isinstance(state, dict) or not {'last_step', '_global_step'} <= set(state) <= set(mine):
            names = ', '.join(sorted(map(str, set(state) ^ set(mine)))) if isinstance(state, dict) else kind_of(state)
            raise CheckpointError(f'{where} there are other values than this run has ({names})')
        for key, value in mine.items():
            compared = key in state and not callable(value)  # only data is taken from the file
            problem = kind_problem(state[key], value) if compared else None
            if problem is not None:
                raise CheckpointError(f'{where} {key} {problem}')
        done = epoch if scheduler.by_epoch else iteration
        within = max(-1, min(done, scheduler.end - 1) - scheduler.begin)  # steps in its range, as step() counts them
        steps = type(scheduler).step is _ParamScheduler.step
        fits = state['last_step'] == within if steps else -1 <= state['last_step'] <= done
        if stepped and (state['_global_step'] != done or not fits):
            raise CheckpointError(
                f'{where} the step is {state["_global_step"]} ({state["last_step"]} of its range), the checkpoint '
                f'is at {done}; the file is damaged'
            )
