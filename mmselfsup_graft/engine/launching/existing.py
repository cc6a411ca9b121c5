"""Protection of existing results: they are replaced only on request."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.logging import print_log

from mmselfsup_graft.errors import ConfigError

_NAMED = 3


def refuse_existing(paths: Iterable[str | os.PathLike], overwrite: bool, option: str) -> None:
    """Raise an error, before any work, if the results would replace existing files.

    Args:
        paths: The files that would be written.
        overwrite: Replace them.
        option: The option that names another place.

    Raises:
        ConfigError: If one of them exists and ``overwrite`` is not set.
    """
    found = [str(path) for path in paths if os.path.lexists(path)]
    if found and not overwrite:
        raise ConfigError(
            f'{_shortened(found)} exists already; choose another place with {option}, or replace it: --overwrite'
        )


def refuse_other_recipe(work_dir: Path, stages: Iterable[str]) -> None:
    """Raise an error if the report of another recipe would be replaced.

    Args:
        work_dir: Work directory.
        stages: Names of the stages of the recipe that is to run; each leaves ``stage.json`` in its folder.

    Raises:
        ConfigError: If there is a report, and none of these stages was ever run there, or a single training.
    """
    if (work_dir / 'history.jsonl').is_file():
        raise ConfigError(f'{work_dir} holds a training; choose another --work-dir for the recipe')
    found = [name for name in ('table.json', 'report.html') if (work_dir / name).is_file()]
    if found and not any((work_dir / name / 'stage.json').is_file() for name in stages):
        raise ConfigError(
            f'{work_dir} holds {" and ".join(found)} of another recipe; choose another --work-dir, or remove them'
        )


def clear_work_dir(cfg: Config, overwrite: bool) -> None:
    """Ensure that a new run does not overwrite an earlier one in its work directory.

    All processes must call it; the first one checks and deletes.

    Args:
        cfg: Config with ``work_dir``; a run that is resumed keeps everything.
        overwrite: Delete the checkpoints, history and notes of the earlier run.

    Raises:
        ConfigError: If there is a recipe, or an earlier run that must not be deleted, or the run to resume keeps its
            checkpoints in a folder that this config does not use.
    """
    if any(Path(cfg.work_dir).glob('*/stage.json')):
        raise ConfigError(f'{cfg.work_dir} holds the stages of a recipe; choose another --work-dir')
    if cfg.get('resume'):
        _refuse_elsewhere(cfg)
        return
    files = _files_of_a_run(cfg) if is_main_process() else []
    answer = [[str(path) for path in files]]
    broadcast_object_list(answer)
    if not answer[0]:
        return
    if not overwrite:
        names = [Path(each).name for each in answer[0]]
        raise ConfigError(
            f'{cfg.work_dir} holds an earlier run ({_shortened(names)}); continue it with '
            '--resume, take another --work-dir, or start again with --overwrite, which deletes these files'
        )
    for path in files:
        path.unlink()
    if is_main_process():
        print_log(
            f'--overwrite: {_shortened([path.name for path in files])} of the earlier run deleted', logger='current'
        )
    barrier()


def _refuse_elsewhere(cfg: Config) -> None:
    """Raise an error instead of starting again in the folder of a run with checkpoints in another folder."""
    from mmselfsup_graft.engine.resuming.latest import latest_checkpoint

    note = Path(cfg.work_dir) / 'last_checkpoint'  # mmengine's
    if cfg.get('resume_from') or latest_checkpoint(cfg.work_dir, cfg) is not None or not note.is_file():
        return
    newest = Path(note.read_text(errors='replace').strip() or '.')
    if newest.is_file():
        raise ConfigError(
            f'{cfg.work_dir} holds a run whose newest checkpoint is {newest}; continue it with --cfg-options '
            f'default_hooks.checkpoint.out_dir={newest.parent.parent}, or --resume {newest}'
        )


def _files_of_a_run(cfg: Config) -> list[Path]:
    from mmselfsup_graft.engine.resuming.latest import checkpoint_folders

    folders = [folder for folder in checkpoint_folders(cfg.work_dir, cfg) if folder.is_dir()]
    checkpoints = [path for folder in folders for path in sorted(folder.glob('*.pth'))]
    notes = [Path(cfg.work_dir) / name for name in ('history.jsonl', 'progress.json', 'param_groups.json')]
    if not checkpoints and not notes[0].is_file():
        return []  # a run that ended before its first iteration
    return [path for path in [*checkpoints, *notes] if path.is_file()]


def _shortened(names: Sequence[str]) -> str:
    more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
    return ', '.join(names[:_NAMED]) + more
