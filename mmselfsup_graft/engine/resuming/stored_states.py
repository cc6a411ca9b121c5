"""Counters, weights, log and schedules of a training checkpoint, compared with the run that is to take them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import torch
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.optim import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mmselfsup_graft.checkpoints.values import are_steps
from mmselfsup_graft.errors import CheckpointError

from .latest import LONGEST
from .stored_values import is_number, kind_of, kind_problem, tensor_problem

_NEEDED = ('meta', 'state_dict')
_BEST = re.compile(r'best_[^/\x00-\x1f\x7f]{1,200}\.pth')  # names of hooks, which delete the previous best one
_LAST = re.compile(r'\w[\w.=-]{0,200}\.pth')
# set by every run at its start; a file must not replace the config texts, which some code executes
_OF_THE_RUN = {
    *('cfg', 'seed', 'experiment_name', 'mmengine_version', 'loop_stage', 'dataset_meta'),
    *('epoch', 'iter', 'max_epochs', 'max_iters'),
}


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
        finite: Names of tensors that must be finite.

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
            problem = tensor_problem(state[name], own, finite=name in finite, exact=exact)
            if problem is not None:
                problems.append(f'{name} {problem.replace("the run has", "the model has")}')
    if problems:
        more = f' and {len(problems) - 3} more' if len(problems) > 3 else ''
        raise CheckpointError(f'{filename} does not fit this model: {"; ".join(problems[:3])}{more}')


def check_averages(content: Mapping[str, Any], hooks: Iterable[Any], filename: str, model: nn.Module) -> None:
    """Compare the weight average of a file with that of the run's hook, if it has one.

    Raises:
        CheckpointError: If it does not fit, its number of steps is impossible, or only one of the two has an average.
    """
    found = [getattr(hook, 'ema_model', None) for hook in hooks]
    averages = [each for each in found if isinstance(each, nn.Module)]
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
        steps = content['ema_state_dict'].get('steps')
        if steps is not None and not 0 <= int(steps) <= LONGEST:  # the decay is computed from the number of steps
            raise CheckpointError(
                f'{filename} cannot be resumed: the average of the weights has {int(steps)} steps, expected a number '
                'from 0; the file is damaged, resume from another one'
            )


# ---------------------------------------------------------------- log
def stored_log(hub: Any, filename: str) -> dict[str, Any]:
    """Content of the store of logged scalars in a file: histories, and information that outlives a process.

    Facts about a run (its config, seed, name and length) are not loaded. The folder of file names is
    removed: a checkpoint hook deletes the previous best checkpoint when there is a better one, and it must not delete
    a file elsewhere.

    Raises:
        CheckpointError: If a part is of another kind.
    """
    parts: dict[str, dict] = {}
    for key in ('log_scalars', 'runtime_info', 'resumed_keys'):
        part = {} if hub is None else hub.get(key, {}) if isinstance(hub, dict) else None
        if not isinstance(part, dict) or not all(type(name) is str for name in part):
            raise CheckpointError(f'{filename} cannot be resumed: message_hub.{key} is not a dict of names')
        parts[key] = part
    scalars = {}
    for name, columns in parts['log_scalars'].items():
        if columns in ([[], []], ([], [])):
            continue  # nothing can be computed from a history without values
        buffer = _history(columns)
        if buffer is None:
            raise CheckpointError(
                f'{filename} cannot be resumed: message_hub.log_scalars.{name} is {kind_of(columns)}, expected values '
                'and their counts above 0'
            )
        scalars[name] = buffer
    info = {
        name: _information(name, value, filename)
        for name, value in parts['runtime_info'].items()
        if name not in _OF_THE_RUN
    }
    known = {*scalars, *info}
    resumed = {name: value is True for name, value in parts['resumed_keys'].items() if name in known}
    return {'log_scalars': scalars, 'runtime_info': info, 'resumed_keys': resumed}


def _history(columns: Any) -> HistoryBuffer | None:
    if not isinstance(columns, list) or len(columns) != 2:
        return None
    values, counts = columns
    if not isinstance(values, list) or not isinstance(counts, list) or len(values) != len(counts):
        return None
    numbers = all(type(each) in (int, float) for each in values)
    if not numbers or not all(is_number(each) and each > 0 for each in counts):
        return None
    return HistoryBuffer(values, counts)


def _information(name: str, value: Any, filename: str) -> Any:
    wrong = None
    if name.startswith(('best_ckpt', 'best_file', 'last_ckpt')):
        if type(value) is str and (_LAST if name.startswith('last') else _BEST).fullmatch(PurePath(value).name):
            return PurePath(value).name
        wrong = None if value is None else 'the name of a checkpoint'
    elif name.startswith('best_score') and not (type(value) in (int, float) or value is None):
        wrong = 'a number'
    elif name == 'best_epoch' and type(value) is not int:
        wrong = 'a whole number'
    elif name == 'keep_ckpt_ids' and not are_steps(value):
        wrong = 'a list of whole numbers'
    if wrong is not None:
        raise CheckpointError(
            f'{filename} cannot be resumed: message_hub.runtime_info.{name} is {kind_of(value)}, expected {wrong}'
        )
    return value


def place_files(info: dict[str, Any], hooks: Iterable[Any], work_dir: str) -> None:
    """Put the folder of the run's checkpoints before the names of files, as mmengine's hook has them; in place."""
    out_dir = next((hook.out_dir for hook in hooks if isinstance(hook, CheckpointHook) and hook.out_dir), work_dir)
    folder = Path(work_dir) if out_dir == work_dir else Path(out_dir) / Path(work_dir).name
    for name, value in info.items():
        if name.startswith(('best_ckpt', 'last_ckpt')) and type(value) is str:
            info[name] = str(folder / value)


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
        if stepped and (state['_global_step'] != done or not -1 <= state['last_step'] <= done):
            raise CheckpointError(
                f'{where} the step is {state["_global_step"]} ({state["last_step"]} of its range), the checkpoint '
                f'is at {done}; the file is damaged'
            )
