"""Running one stage of a recipe: train, fine-tune a checkpoint, or score one."""

import math
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.logging import print_log

from mmselfsup_graft.checkpoints import file_sha256
from mmselfsup_graft.engine.launching.work_dir import exclusive_work_dir
from mmselfsup_graft.engine.resuming.latest import latest_checkpoint
from mmselfsup_graft.engine.train import prepare_distributed, train
from mmselfsup_graft.errors import GraftError
from mmselfsup_graft.evaluation.finetuning.finetune import finetune, prepare_finetuning
from mmselfsup_graft.evaluation.results import score_and_record
from mmselfsup_graft.utils.files import read_json, write_json

from .recipe import FINETUNE, SCORE, Stage, is_done, resolve
from .recipe_data import fit_batch, train_on_unlabeled
from .stage_note import REPEAT, check_values


def run_stage(stage: Stage, work_dir: Path, launcher: str = 'none') -> None:
    """Run one stage in this process, from its newest checkpoint if it was started before.

    Over ranks: all processes must call it; the first one writes.

    Args:
        stage: The stage.
        work_dir: Work directory of the recipe.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
    """
    if is_done(stage, work_dir):
        return
    folder = Path(work_dir) / stage.name
    cfg = Config(resolve(stage.cfg.to_dict(), Path(work_dir)))
    cfg.work_dir, cfg.launcher = str(folder), launcher
    # mmengine keeps loggers and message hubs by name; two stages in one process must not share them
    cfg.experiment_name = f'{stage.name}_{stage.fingerprint[:8]}'
    prepare_distributed(cfg)
    with exclusive_work_dir(folder):
        if is_main_process():
            write_json(folder / 'stage.json', {'fingerprint': stage.fingerprint, 'needs': stage.needs})
        checkpoint = resolve(stage.checkpoint, Path(work_dir))
        note = _score(stage, cfg, checkpoint, work_dir) if stage.kind == SCORE else _train(stage, cfg, checkpoint)
        if is_main_process():
            check_values(note, folder / 'progress.json')
            write_json(folder / 'done.json', {'fingerprint': stage.fingerprint, **note})
        barrier()


def _train(stage: Stage, cfg: Config, checkpoint: str | None) -> dict[str, Any]:
    """Train or fine-tune; the content of ``done.json``, empty on all processes but the first."""
    cfg.resume = True
    changes = [None if stage.kind == FINETUNE else train_on_unlabeled(cfg), fit_batch(cfg, get_world_size())]
    notes = [note for note in changes if note]
    for text in notes if is_main_process() else ():
        print_log(text)
    results = {}
    if stage.kind == FINETUNE:
        results = _finetune(stage, cfg, str(checkpoint))
    else:
        # writes progress.json; configs of other libraries (a detector's) have no such hook
        cfg.default_hooks.setdefault('history', {'type': 'mmselfsup_graft.HistoryHook'})
        train(cfg)
    if not is_main_process():
        return {}
    note = _trained(Path(cfg.work_dir), stage)
    note['notes'] = notes + note['notes']
    return {**note, 'results': results} if results else note


def _finetune(stage: Stage, cfg: Config, checkpoint: str) -> dict[str, Any]:
    row = finetune(prepare_finetuning(cfg, checkpoint), stage.file)
    return {} if row is None else {row['protocol']: row['result']}


def _score(stage: Stage, cfg: Config, checkpoint: str, work_dir: Path) -> dict[str, Any]:
    """Score a frozen encoder by the protocols of the config; features are shared by all stages of the recipe."""
    started, used = time.monotonic(), time.process_time()
    recorded = score_and_record(cfg, stage.file, checkpoint, features=Path(work_dir) / 'features')
    if recorded is None:
        return {}
    rows, text = recorded
    print_log(text)
    return {
        'seconds': time.monotonic() - started,
        'cpu_seconds': time.process_time() - used,
        'iterations': 0,
        'notes': [],
        'results': {row['protocol']: row['result'] for row in rows},
    }


def _trained(folder: Path, stage: Stage) -> dict[str, Any]:
    """What ``done.json`` says of a training.

    Raises:
        GraftError: If it ended without a checkpoint.
    """
    newest = latest_checkpoint(folder)
    if newest is None:
        raise GraftError(f'stage {stage.name} ended without a checkpoint; set default_hooks.checkpoint.interval')
    progress = read_json(folder / 'progress.json', REPEAT, ('seconds', 'max_iters', 'notes'))
    return {
        'checkpoint': Path(newest).name,
        'sha256': file_sha256(newest),
        'seconds': progress['seconds'],
        # unknown if an older version started it: missing, or NaN
        **{key: progress[key] for key in ('cpu_seconds',) if progress.get(key, math.nan) == progress.get(key)},
        'iterations': progress['max_iters'],
        'notes': progress['notes'],
    }
