"""The checkpoints of a run, and the newest of them."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.errors import CheckpointError

LONGEST = 2**53  # no run has as many iterations, and no number beyond it is exact everywhere
_NAME = re.compile(r'(epoch|iter)_(\d{1,15})\.pth')


class _Saved(NamedTuple):
    path: Path
    unit: str
    number: int


def checkpoint_folders(work_dir: str | os.PathLike, cfg: Mapping[str, Any] | None = None) -> list[Path]:
    """Folders in which a run keeps checkpoints: its work directory and, if set, that of ``checkpoint.out_dir``.

    Args:
        work_dir: Work directory.
        cfg: Config of the run. mmengine's hook puts checkpoints into ``out_dir/<name of the work directory>``.
    """
    hook = ((cfg or {}).get('default_hooks') or {}).get('checkpoint')
    out_dir = hook.get('out_dir') if isinstance(hook, Mapping) else getattr(hook, 'out_dir', None)
    folders = [Path(work_dir)]
    if out_dir and '://' not in str(out_dir):
        folders.append(Path(out_dir) / Path(work_dir).name)
    return folders


def checkpoints_of(work_dir: str | os.PathLike, cfg: Mapping[str, Any] | None = None) -> list[str]:
    """All checkpoints of a run, the one of the latest iteration first.

    Iterations are taken from the names, not from the dates of the files, which copying changes. If there are files of
    both epochs and iterations, the file of the last epoch gives the iterations per epoch.

    Args:
        work_dir: Work directory.
        cfg: See :func:`checkpoint_folders`.
    """
    found = []
    for folder in dict.fromkeys(checkpoint_folders(work_dir, cfg)):
        for path in folder.glob('*.pth'):
            match = _NAME.fullmatch(path.name)
            if match and path.is_file():
                found.append(_Saved(path, match[1], int(match[2])))
    per_epoch = _iterations_per_epoch(found)
    # of the same iteration, the file of the epoch was written later
    found.sort(key=lambda each: (each.number * (per_epoch if each.unit == 'epoch' else 1.0), each.unit == 'epoch'))
    return [str(each.path) for each in reversed(found)]


def latest_checkpoint(work_dir: str | os.PathLike, cfg: Mapping[str, Any] | None = None) -> str | None:
    """Checkpoint of the latest iteration in the folders of a run, or None; see :func:`checkpoints_of`.

    Checkpoints appear under their name only when they are whole (see ``GraftRunner.save_checkpoint``); mmengine's file
    ``last_checkpoint`` is not used, as a kill can leave it empty.
    """
    return next(iter(checkpoints_of(work_dir, cfg)), None)


def _iterations_per_epoch(found: Iterable[_Saved]) -> float:
    """Iterations per epoch if both kinds of files exist; otherwise any number sorts them."""
    found = list(found)
    if len({each.unit for each in found}) < 2:
        return 1.0
    for each in sorted(found, key=lambda each: each.number, reverse=True):
        if each.unit == 'epoch' and each.number:
            done = stored_counters_or_none(each.path)
            if done is not None and done[0] > 0:
                return done[1] / done[0]
    return float('inf')  # no file of an epoch can be read; callers that read the files report it


def stored_counters_or_none(path: str | os.PathLike) -> tuple[int, int] | None:
    """Epoch and iteration that a checkpoint states; None if unreadable or impossible."""
    try:
        meta = read_checkpoint(path).get('meta')
    except CheckpointError:
        return None
    epoch, iteration = (meta.get('epoch'), meta.get('iter')) if isinstance(meta, Mapping) else (None, None)
    if type(epoch) is not int or type(iteration) is not int or not 0 <= epoch <= iteration < LONGEST:
        return None
    return epoch, iteration


def _is_of_another_model(path: str | os.PathLike, cfg: Any) -> bool:
    """Whether a checkpoint states another type of model than a config has; older ones state none."""
    run = (read_checkpoint(path).get('meta') or {}).get('run')
    before = run.get('model.type') if isinstance(run, Mapping) else None
    now = (cfg.get('model') or {}).get('type')
    return isinstance(before, str) and isinstance(now, str) and before != now


def advice_to_continue(work_dir: str | os.PathLike, cfg: Mapping[str, Any] | None = None) -> str:
    """Advice on how to continue a run that ends now.

    Args:
        work_dir: Work directory.
        cfg: See :func:`checkpoint_folders`.
    """
    again = 'run the same command again'
    with_option = '(train.py and finetune.py: with --resume)'
    names = (path.name for folder in checkpoint_folders(work_dir, cfg) for path in folder.glob('*.pth'))
    if any(map(_NAME.fullmatch, names)):
        return f'{again} to continue {with_option}'
    if (Path(work_dir) / 'history.jsonl').is_file():  # without the option it would be an error
        return f'no checkpoint found, {again} to start again {with_option}'
    return f'no checkpoint found, {again}'


def finished(cfg: Any) -> str | None:
    """Message about a run to resume that is trained to its end; None if it is not finished.

    Args:
        cfg: A config with ``work_dir`` and ``resume``, which trains by epochs.
    """
    wanted = (cfg.get('train_cfg') or {}).get('max_epochs')
    source = (cfg.get('resume_from') or latest_checkpoint(cfg.work_dir, cfg)) if cfg.get('resume') else None
    if source is None or not isinstance(wanted, int):
        return None
    name = _NAME.fullmatch(Path(source).name)
    if name and name[1] == 'epoch' and int(name[2]) < wanted:
        return None  # avoids reading it twice
    counters = stored_counters_or_none(source)
    if counters is None or counters[0] < wanted or _is_of_another_model(source, cfg):
        return None
    epoch, iteration = counters
    done = f'{epoch} of {wanted} epochs' if epoch == wanted else f'{epoch} epochs, and {wanted} are asked for'
    return (
        f'finished: {done}, use --epochs for more (resumed epoch: {epoch}, iter: {iteration}, '
        f'from {source}; no file was changed)'
    )
