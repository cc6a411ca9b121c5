"""The store of logged values (mmengine's message hub) of a training checkpoint."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer

from mmselfsup_graft.checkpoints.finite_values import are_steps
from mmselfsup_graft.errors import CheckpointError, ConfigError

from .stored_values import is_number, kind_of

_BEST = re.compile(r'best_[^/\x00-\x1f\x7f]{1,200}\.pth')  # names of hooks, which delete the previous best one
_BEST_FILE = re.compile(r'best_(.+)_epoch_(\d+)\.pth', re.DOTALL)  # metric and epoch, as SafeCheckpointHook names it
_BEST_EPOCH = ('best_score', 'best_epoch', 'best_file')
_LAST = re.compile(r'\w[\w.=-]{0,200}\.pth')
# set by every run at its start; a file must not replace the config texts, which some code executes
_OF_THE_RUN = {
    *('cfg', 'config', 'seed', 'experiment_name', 'mmengine_version', 'loop_stage', 'dataset_meta'),
    *('epoch', 'iter', 'max_epochs', 'max_iters'),
}


def stored_log(hub: Any, filename: str) -> dict[str, Any]:
    """Content of the store of logged scalars in a file: histories, and information that outlives a process.

    Facts about a run (its config, seed, name and length) are not loaded. The folder of file names is
    removed: a checkpoint hook deletes the previous best checkpoint when there is a better one, and it must not delete
    a file elsewhere.

    Raises:
        CheckpointError: If a part is of another kind.
    """
    parts: dict[str, dict] = {}
    for key in ('log_scalars', 'runtime_info'):
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
    # a run saves nothing else; False would leave a value out of the next checkpoint
    resumed = dict.fromkeys([*scalars, *info], True)
    return {'log_scalars': scalars, 'runtime_info': info, 'resumed_keys': resumed}


def check_iteration(hub: Any, iteration: int, filename: str) -> None:
    """Compare the iteration of a checkpoint with that of its log, which is of the last iteration or the next one.

    Raises:
        CheckpointError: If they differ: the order of the data and the schedules would continue elsewhere.
    """
    info = hub.get('runtime_info') if isinstance(hub, dict) else None
    logged = info.get('iter') if isinstance(info, dict) else None
    if type(logged) is int and logged not in (iteration - 1, iteration):
        raise CheckpointError(
            f'{filename} cannot be resumed: its meta.iter is {iteration}, its log is of iteration {logged}; the file '
            'is damaged, resume from another one'
        )


def check_best(
    log: Mapping[str, dict[str, Any]], hooks: Iterable[Any], epoch: int, filename: str, anyway: bool = False
) -> list[str]:
    """Check the best epoch so far, which a run with ``save_best`` replaces when a later one is better.

    Args:
        log: Result of :func:`stored_log`; a best epoch of another metric is removed from it if ``anyway`` is set.
        hooks: Of the run.
        epoch: Epoch of the file.
        filename: For the message.
        anyway: Return a difference of the metrics instead of raising an error.

    Returns:
        Description of the difference, if there is one.

    Raises:
        CheckpointError: If score, epoch and file do not belong together.
        ConfigError: If the best epoch was selected by another metric and ``anyway`` is not set.
    """
    info = log['runtime_info']
    found = [info[key] for key in _BEST_EPOCH if info.get(key) is not None]
    hook = next((hook for hook in hooks if getattr(hook, 'best_metric', None) is not None), None)
    if hook is None or not found:
        return []
    before = _BEST_FILE.fullmatch(found[-1]) if len(found) == len(_BEST_EPOCH) else None
    if before is None or not is_number(found[0]) or not 0 < found[1] <= epoch or before[2] != str(found[1]):
        raise CheckpointError(
            f'{filename} cannot be resumed: its best_score, best_epoch and best_file are '
            f'{", ".join(map(kind_of, found))}, expected a number, an epoch up to {epoch} and the name of its '
            'file; the file is damaged, resume from another one'
        )
    if found[-1] == hook.best_name(found[1]):
        return []
    difference = f'the best epoch was selected by {before[1]}, now by {hook.best_metric}'
    if not anyway:
        raise ConfigError(
            f'cannot resume {filename}: {difference}. Use save_best of the first start, or resume_anyway=True '
            '(--cfg-options resume_anyway=True) to select the best of the epochs that follow'
        )
    for key in _BEST_EPOCH:
        del info[key], log['resumed_keys'][key]
    return [f'{difference}: {found[-1]} is kept, and the best of the epochs that follow is selected']


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
