"""Training one config."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmengine.utils import import_modules_from_strings

from mmselfsup_graft.downloads.resolve import is_zoo_name
from mmselfsup_graft.engine.config.check import apply_cfg_options, check_config
from mmselfsup_graft.engine.config.data_root import set_data_root
from mmselfsup_graft.engine.config.log_backends import log_to
from mmselfsup_graft.engine.launching.existing import clear_work_dir
from mmselfsup_graft.engine.launching.slurm import slurm_variables
from mmselfsup_graft.engine.launching.work_dir import default_work_dir, exclusive_work_dir
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.libraries.quiet import quiet_imports
from mmselfsup_graft.libraries.scopes import import_scope, register_all_modules
from mmselfsup_graft.ops.finder import VARIABLE as OPERATORS
from mmselfsup_graft.ops.finder import operators_in_use
from mmselfsup_graft.registry import SCOPE
from mmselfsup_graft.utils.files import writing
from mmselfsup_graft.utils.stop_signals import die_with_parent


def load_config(path: str | os.PathLike, options: dict[str, Any] | None = None) -> Config:
    """Read a config file, apply overrides and check every key.

    Raises:
        ConfigError: If there is no such file, it cannot be read, or a key is unknown.
    """
    register_all_modules()
    if not Path(path).is_file():
        raise ConfigError(f'config {path} does not exist; configs are in the folder configs/')
    try:
        with quiet_imports():
            cfg = Config.fromfile(str(path))
        import_scope(cfg.get('default_scope'))
    except ImportError as error:
        missing = re.search(rf"No module named '({SCOPE}[.\w]*)'", str(error))
        if missing:
            raise ConfigError(
                f'config {path} imports {missing[1]}, which does not exist in this version; see custom_imports'
            ) from error
        raise ConfigError(
            f'config {path} needs a package that is not installed ({error}); for detection and segmentation: '
            'bash tools/install.sh --transfer'
        ) from error
    except (SyntaxError, NameError, KeyError, FileNotFoundError, TypeError, OSError) as error:
        raise ConfigError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error
    if options:
        # first the imports: an option may belong to a class that only they register
        imports = {key: value for key, value in options.items() if key.partition('.')[0] == 'custom_imports'}
        if imports:
            apply_cfg_options(cfg, imports)
            _import_modules(cfg.custom_imports)
        apply_cfg_options(cfg, {key: value for key, value in options.items() if key not in imports})
    check_config(cfg)
    return cfg


def _import_modules(given: Any) -> None:
    """Import ``custom_imports`` that an override gives; those of the file were imported with it.

    Raises:
        ConfigError: If it is not a dict with ``imports``, or one of them cannot be imported.
    """
    if not isinstance(given, dict) or 'imports' not in given:
        raise ConfigError(
            f'custom_imports is {given!r}, expected a dict with the names of modules: custom_imports.imports=[MODULE]'
        )
    try:
        import_modules_from_strings(**given)
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigError(f'custom_imports={dict(given)!r} cannot be imported: {error}') from error


def training_config(
    config: str | os.PathLike,
    options: dict[str, Any] | None = None,
    work_dir: str | os.PathLike | None = None,
    resume: str | bool | None = None,
    epochs: int | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    launcher: str = 'none',
    data_root: str | os.PathLike | None = None,
    log: Sequence[str] = (),
) -> Config:
    """The resolved and checked config of a training.

    Args:
        config: Config file.
        options: Overrides by dotted key.
        work_dir: Where to write; default: ``work_dirs/<config name>``.
        resume: Checkpoint to resume; ``auto`` or True for the newest one in the work directory.
        epochs: Length of the run; the learning-rate schedule follows.
        amp: Use half precision if the machine supports it.
        auto_scale_lr: Scale the learning rate with the batch size.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        data_root: Folder of all data sets, see :func:`mmselfsup_graft.engine.config.data_root.set_data_root`.
        log: Services that show the run, see :func:`mmselfsup_graft.engine.config.log_backends.log_to`.

    Raises:
        ConfigError: See the functions called here.
        CheckpointError: If there is no checkpoint to resume.
    """
    options = options or {}
    cfg = load_config(config, options)
    if work_dir and options.get('work_dir', work_dir) != work_dir:
        raise ConfigError(f'--work-dir {work_dir} and --cfg-options work_dir={options["work_dir"]} differ; give one')
    cfg.work_dir = os.fspath(work_dir or cfg.get('work_dir') or default_work_dir(config))
    cfg.launcher = launcher
    if data_root is not None:
        move_data(cfg, data_root)
    if epochs is not None:
        set_epochs(cfg, epochs)
    if amp:
        enable_amp(cfg)
    if auto_scale_lr:
        enable_auto_scale_lr(cfg)
    if log:
        log_to(cfg, [log] if isinstance(log, str) else log)
    if resume:
        enable_resume(cfg, 'auto' if resume is True else resume)
    return cfg


def move_data(cfg: Config, data_root: str | os.PathLike) -> None:
    """Read all data sets from this folder, and say what else had to change, see :func:`set_data_root`.

    Raises:
        ConfigError: See there.
    """
    for note in set_data_root(cfg, data_root):
        if os.environ.get('RANK', '0') == '0':  # before a process group exists
            print(f'--data-root: {note}', flush=True)
    check_config(cfg)


def resumes(cfg: Config) -> bool:
    """Whether the run resumes from a checkpoint, so that it needs no initial weights."""
    from mmselfsup_graft.engine.resuming.latest import latest_checkpoint

    return bool(cfg.get('resume') and (cfg.get('resume_from') or latest_checkpoint(cfg.work_dir, cfg)))


def set_pretrained(cfg: Config, checkpoint: str) -> None:
    """Load this file into every part of a detector or segmentor that uses pre-trained weights.

    Raises:
        ConfigError: If no part of the model has ``init_cfg=dict(type='Pretrained', ...)``.
        CheckpointError: If there is no such file.
    """
    entries = list(_pretrained_entries(cfg.model))
    if not entries:
        raise ConfigError(
            "--pretrained needs a model with init_cfg=dict(type='Pretrained', ...), as in "
            'configs/mmdetection and configs/mmsegmentation; in pre-training use model.graft'
        )
    if not is_zoo_name(checkpoint) and not Path(checkpoint).is_file():
        raise CheckpointError(f'--pretrained {checkpoint}: no such file')
    for entry in entries:
        entry['checkpoint'] = checkpoint


def _pretrained_entries(value: Any) -> Iterator[dict[str, Any]]:
    from mmselfsup_graft.models.foreign_weights import is_pretrained_init

    if isinstance(value, dict):
        if is_pretrained_init(value):
            yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _pretrained_entries(each)


def enable_amp(cfg: Config) -> None:
    """Train in half precision if the machine supports it (see :class:`AutocastOptimWrapper`)."""
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper').removeprefix(f'{SCOPE}.')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'AutocastOptimWrapper'):
        raise ConfigError(f'--amp cannot be used with optim_wrapper.type={wrapper.type}; use OptimWrapper')
    of_ours = 'AutocastOptimWrapper'
    wrapper.type = of_ours if cfg.get('default_scope') == SCOPE else f'{SCOPE}.{of_ours}'
    wrapper.pop('loss_scale', None)
    if cfg.get('default_scope') == 'mmdet' and operators_in_use() == 'compiled':  # these have no bfloat16
        wrapper.dtype = 'float16' if torch.cuda.is_available() else 'float32'
        print_log(
            f'--amp: training in {wrapper.dtype}, as the compiled operators of mmcv have no bfloat16; '
            f'{OPERATORS}=torchvision uses those that have it',
            logger='current',
        )


def set_epochs(cfg: Config, epochs: int) -> None:
    """Train for this many epochs, with the learning-rate schedules, warm-up included, scaled likewise.

    Raises:
        ConfigError: If the number is not positive or the config does not train by epochs.
    """
    if epochs < 1:
        raise ConfigError(f'the number of epochs must be at least 1, got {epochs}')
    share = epochs / epochs_of(cfg)
    cfg.train_cfg.max_epochs = epochs
    for scheduler in cfg.get('param_scheduler') or []:
        _scale_schedule(scheduler, share)


def epochs_of(cfg: Config) -> int:
    """Number of epochs that a config trains.

    Raises:
        ConfigError: If it does not train by epochs.
    """
    if 'max_epochs' not in cfg.get('train_cfg', {}):
        raise ConfigError(
            'this config does not train by epochs (train_cfg.max_epochs); a length in iterations is set by '
            '--cfg-options train_cfg.max_iters=N, and its schedule with it'
        )
    return cfg.train_cfg.max_epochs


def _scale_schedule(scheduler: Any, share: float) -> None:
    """Scale all lengths of a schedule in place; no length becomes 0 (a warm-up is at least one epoch)."""
    for key in {'begin', 'end', 'T_max'} & set(scheduler):
        least = 0 if key == 'begin' else 1
        scheduler[key] = max(least, round(scheduler[key] * share))
    if 'milestones' in scheduler:
        scheduler.milestones = [round(each * share) for each in scheduler.milestones]
    if 'warmup' in scheduler:
        scheduler.warmup = scheduler.warmup * share


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate linearly with the real batch size."""
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise ConfigError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config')
    cfg.auto_scale_lr.enable = True


def enable_resume(cfg: Config, source: str) -> None:
    """Resume from a checkpoint; ``auto`` takes the newest one of the work directory.

    Raises:
        CheckpointError: If there is no such file.
    """
    cfg.resume = True
    cfg.resume_from = None if source == 'auto' else source
    if cfg.resume_from and Path(cfg.resume_from).is_dir():
        raise CheckpointError(
            f'--resume {cfg.resume_from}: is a folder, expected a checkpoint; --resume alone takes the newest one of '
            '--work-dir'
        )
    if cfg.resume_from and not Path(cfg.resume_from).is_file():
        raise CheckpointError(f'--resume {cfg.resume_from}: no such file')


def prepare_distributed(cfg: Config) -> None:
    """Open the process group of a launcher; without a GPU use gloo and wrap models for the CPU.

    mmengine's own launcher code requires CUDA. ``model_wrapper_cfg`` of the config is kept. From here on the
    process ends when its launcher ends.

    Raises:
        ConfigError: If the launcher's variables are missing.
    """
    if cfg.get('launcher', 'none') == 'none':
        return
    die_with_parent()
    if cfg.launcher == 'slurm':
        os.environ.update(slurm_variables(os.environ))
    if torch.cuda.is_available():
        if not torch.distributed.is_initialized():
            init_dist(cfg.launcher, **cfg.get('env_cfg', {}).get('dist_cfg', {}))
        return
    if not torch.distributed.is_initialized():
        if 'RANK' not in os.environ:
            raise ConfigError(
                f'--launcher {cfg.launcher} on a machine without GPU needs the variables of torchrun (RANK, '
                'WORLD_SIZE, ...): start it with tools/dist_train.sh or tools/slurm_train.sh'
            )
        torch.distributed.init_process_group('gloo')
    from mmselfsup_graft.engine.runners.model_steps import is_ddp

    given = cfg.get('model_wrapper_cfg') or {}
    if is_ddp(given):
        defaults = dict(
            device_ids=None,  # mmengine would set GPU numbers
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        cfg.model_wrapper_cfg = {**defaults, **given}


def train(cfg: Config, overwrite: bool = False) -> Runner:
    """Train a checked config to its end; returns the runner.

    Args:
        cfg: ``cfg.work_dir`` must be set. The resolved config is written there by mmengine.
        overwrite: Delete an earlier run in the work directory; otherwise it is an error, unless it is resumed.

    Raises:
        ConfigError: If the work directory holds a run that is neither resumed nor overwritten.
    """
    from mmselfsup_graft.engine.runners.graft_runner import GraftRunner

    prepare_distributed(cfg)
    # the disk may be full when mmengine writes its logs; our own errors name the file
    with exclusive_work_dir(cfg.work_dir), writing(f'a file in {cfg.work_dir}'):
        clear_work_dir(cfg, overwrite)
        runner = GraftRunner.from_cfg(cfg)
        runner.train()
    return runner
