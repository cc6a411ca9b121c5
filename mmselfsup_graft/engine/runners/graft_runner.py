"""mmengine's Runner with safe checkpoints."""

import copy
import logging
import os
import secrets
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmengine.visualization import Visualizer
from torch import nn

from mmselfsup_graft.engine.console import shorten_console
from mmselfsup_graft.engine.device_scalars import DeferredMessageHub
from mmselfsup_graft.engine.execution.region_precision import matmul_precision
from mmselfsup_graft.engine.execution.sharding import is_sharded, whole_states
from mmselfsup_graft.engine.launching.loader_workers import keep_workers_running
from mmselfsup_graft.engine.resuming.latest import advice_to_continue, latest_checkpoint
from mmselfsup_graft.engine.resuming.resume import load_weights, newest_readable_checkpoint, read_plain, resume
from mmselfsup_graft.engine.run_parts import batch_size_of, optim_wrappers, unwrapped_model
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.libraries.weight_files import safe_torch_load
from mmselfsup_graft.registry import RUNNERS
from mmselfsup_graft.utils.files import writing
from mmselfsup_graft.utils.stop_signals import deferred, request

from .batch_rules import Batch, base_batch, lr_factor, micro_batch_note, scale_learning_rates
from .config_text import FormattedOnce
from .model_steps import MODEL_STEPS
from .pretrained import load_pretrained, take_pretrained
from .resumable_loop import ResumableEpochLoop

_OF_MMENGINE = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


@RUNNERS.register_module()
class GraftRunner(Runner):
    """Runner whose checkpoints are written whole or not at all and read without running code.

    Weights that a detector's or segmentor's ``init_cfg`` of type ``Pretrained`` asks for arrive whole or stop the run.

    Args are those of :class:`mmengine.runner.Runner`.

    Attributes:
        resumed_from: The checkpoint that the run continued from, if it did.
    """

    _resume: bool
    _load_from: str | None
    _has_loaded: bool
    resumed_from: str | None = None

    @classmethod
    def from_cfg(cls, cfg: Config | dict) -> 'GraftRunner':
        """Build from a config as mmengine does; its text is formatted once, not for every checkpoint.

        ``activation_checkpointing=True`` becomes ``recompute=True``: mmengine takes the key for names of modules.
        """
        asked = cfg.get('activation_checkpointing')
        if isinstance(asked, bool):
            if cfg.get('recompute', asked) is not asked:
                raise ConfigError(
                    f'activation_checkpointing={asked} and recompute={not asked} differ; give one of them'
                )
            cfg = copy.deepcopy(cfg)
            cfg['recompute'] = cfg.pop('activation_checkpointing')
        return super().from_cfg(FormattedOnce.of(cfg) if isinstance(cfg, Config) else cfg)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register as mmengine does; ``name=None`` removes every default hook, also one that mmengine does not know.

        The data sets are described and checked, see :class:`CheckDataHook`, and the run is summed up. mmengine's own
        checkpoint hook, in configs of mmdet and mmseg, is replaced by one whose files are read safely.
        """
        wanted = {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in _OF_MMENGINE}
        saving = wanted.get('checkpoint', {'type': 'CheckpointHook', 'interval': 1})
        if isinstance(saving, dict) and saving.get('type') in (
            'CheckpointHook',
            'mmengine.CheckpointHook',
            CheckpointHook,
        ):
            wanted['checkpoint'] = {**saving, 'type': 'mmselfsup_graft.ReadableCheckpointHook'}
        if 'preemption' not in (hooks or {}):
            wanted['preemption'] = {'type': 'mmselfsup_graft.PreemptionHook'}
        added = {'check_data': 'CheckDataHook', 'summary': 'RunSummaryHook', 'live_line': 'LiveLineHook'}
        super().register_default_hooks({**wanted, **{k: {'type': f'mmselfsup_graft.{v}'} for k, v in added.items()}})

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> Any:
        """Build as mmengine does; ``num_workers=0`` alone is enough to load in the process that trains."""
        if isinstance(dataloader, dict) and dataloader.get('num_workers') == 0 and dataloader.get('persistent_workers'):
            dataloader = {**dataloader, 'persistent_workers': False}
        if isinstance(dataloader, dict) and dataloader.get('pin_memory') and not torch.cuda.is_available():
            dataloader = {**dataloader, 'pin_memory': False}  # torch would warn that there is nothing to pin it for
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if isinstance(dataloader, dict):
            keep_workers_running(loader)
        return loader

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build as mmengine does; its epoch loop is replaced by one that can be resumed in the middle of an epoch."""
        if isinstance(loop, dict):
            kind = loop.get('type', 'EpochBasedTrainLoop' if loop.get('by_epoch') else None)
            if kind in ('EpochBasedTrainLoop', 'mmengine.EpochBasedTrainLoop', EpochBasedTrainLoop):
                rest = {key: value for key, value in loop.items() if key not in ('type', 'by_epoch')}
                loop = {**rest, 'type': ResumableEpochLoop}
        return super().build_train_loop(loop)

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs: Any) -> MMLogger:
        """Build as mmengine does, under a name that no other run of this process has.

        mmengine names a run by its config and the second in which it starts; two runs of one name would share their
        logged scalars and their log file. The console shows a short form, see :func:`shorten_console`.
        """
        if DeferredMessageHub.check_instance_created(self._experiment_name):
            self._experiment_name += f'_{secrets.token_hex(4)}'
        logger = super().build_logger(log_level, log_file, **kwargs)
        shorten_console(logger)
        return logger

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """Make the store of logged scalars, which reads losses from the device when they are logged and not before."""
        return DeferredMessageHub.get_instance(**{'name': self._experiment_name, **(message_hub or {})})

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build as mmengine does, one for every run: an earlier one of this name would write into its own folder."""
        if isinstance(visualizer, dict) and Visualizer.check_instance_created(visualizer.get('name', '')):
            visualizer = {**visualizer, 'name': f'{visualizer["name"]}_{self._experiment_name}'}
        return super().build_visualizer(visualizer)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build as mmengine does; files that a model reads meanwhile (``pretrained``, a teacher) are read safely."""
        with safe_torch_load():
            return super().build_model(model)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Take the model through :data:`MODEL_STEPS`, the last of which wraps it."""
        for step in MODEL_STEPS:
            model = step(self, model, model_wrapper_cfg)
        return model

    def setup_env(self, env_cfg: dict) -> None:
        """Set up as mmengine does, and the precision of float32 matrix products, see :func:`matmul_precision`.

        It is set in any case: it belongs to the process, where an earlier run may have had another.
        """
        super().setup_env(env_cfg)
        torch.set_float32_matmul_precision(matmul_precision(env_cfg, self.cfg.get('optim_wrapper') or {}))

    def _maybe_compile(self, target: str) -> None:
        """Do nothing: mmengine compiles ``target`` (a whole training step) and falls back where it cannot.

        Here ``compile=True``, or a dict of options, compiles the blocks of the model, see :data:`MODEL_STEPS`.
        """

    def _init_model_weights(self) -> None:
        if not is_sharded(self.model):  # else done by the steps, while the weights were whole
            self.start_weights()

    def train(self) -> nn.Module:
        """Train as mmengine does. SIGTERM and SIGUSR1 wait for :class:`PreemptionHook`; the log keeps the traceback
        of an error.

        Raises:
            ConfigError: If a hook needs the whole weights of a model that is sharded.
            Preempted: If the run was asked to stop.
        """
        needing = [type(hook).__name__ for hook in self.hooks if getattr(hook, 'needs_whole_weights', False)]
        if needing and is_sharded(self.model):
            raise ConfigError(
                f'{needing[0]} needs the whole weights, which no process of a sharded model has; leave out the hook or '
                'model_wrapper_cfg'
            )
        request.advice = partial(advice_to_continue, self.work_dir, self.cfg)
        with deferred():
            try:
                return super().train()
            except Exception:
                self._log_traceback()
                raise
            finally:
                self.call_hook('end_of_training')

    def _log_traceback(self) -> None:
        """Into the log's files alone: the console shows one line."""
        record = self.logger.makeRecord(self.logger.name, logging.ERROR, __file__, 0, traceback.format_exc(), (), None)
        for handler in self.logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)

    def start_weights(self) -> None:
        """Initialize as mmengine does, then load pre-trained parts, unless a checkpoint to resume brings everything."""
        parts = take_pretrained(self.model)
        with safe_torch_load():
            super()._init_model_weights()
        resumed = self._resume_source()
        for part in parts:
            if resumed is None:
                self.logger.info(load_pretrained(part))
            else:
                self.logger.info(f'{part.checkpoint} is not read: the run continues from {resumed}')

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save as mmengine does, under a temporary name that is renamed when the file is complete.

        All processes call it: of a sharded model the first one gathers the whole state, so that the file is the same
        as that of any other run. Before that, all processes call ``before_checkpoint`` of the hooks that have it.
        """
        self.call_hook('before_checkpoint')
        moments = getattr(self.optim_wrapper, 'optimizer', None) if kwargs.get('save_optimizer', True) else None
        with writing(Path(out_dir) / filename), whole_states(unwrapped_model(self), moments):
            self._write_checkpoint(out_dir, filename, *args, **kwargs)

    @master_only
    def _write_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        temporary = f'.{filename}.{os.getpid()}-{secrets.token_hex(4)}.tmp'  # as whole_file names it
        source = Path(out_dir) / temporary
        try:
            super().save_checkpoint(out_dir, temporary, *args, **kwargs)
            with source.open('rb') as file:
                os.fsync(file.fileno())
            os.replace(source, Path(out_dir) / filename)
        except BaseException:
            source.unlink(missing_ok=True)
            raise

    def scale_lr(
        self, optim_wrapper: OptimWrapper | OptimWrapperDict, auto_scale_lr: dict[str, Any] | None = None
    ) -> None:
        """Scale the learning rate with the batch, if that is asked for, see :func:`lr_factor`.

        Differs from mmengine: accumulated micro-batches count, and a warning says when the learning rate is meant for
        another batch, or when a part of the loss sees smaller batches than the optimizer (:func:`micro_batch_note`).

        Raises:
            ConfigError: See :func:`lr_factor`.
        """
        accumulated = optim_wrappers(optim_wrapper)[0]._accumulative_counts
        size = batch_size_of(self.train_dataloader)
        if size is None:
            raise ConfigError('train_dataloader has no fixed batch size; give its batch_sampler a batch_size')
        batch = Batch(size, self.world_size, accumulated)
        model = unwrapped_model(self)
        model.train()  # as the loop will: now what is frozen is known
        note = micro_batch_note(model, batch)
        if note is not None:
            self.logger.warning(note)
        if not auto_scale_lr or 'base_batch_size' not in auto_scale_lr:
            return
        factor, base = lr_factor(batch, auto_scale_lr), base_batch(auto_scale_lr)
        if auto_scale_lr.get('enable', False):
            rule = auto_scale_lr.get('rule', 'linear')
            self.logger.info(f'learning rates for {base} images, batch of {batch}: times {factor:g} ({rule} rule)')
            scale_learning_rates(optim_wrapper, factor)
        elif batch.total != base:
            self.logger.warning(
                f'the learning rate is meant for a batch of {base} images, the batch is {batch}: '
                f'--auto-scale-lr would multiply it by {factor:g}'
            )

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = 'cpu',
        strict: bool = False,
        revise_keys: list | None = None,
    ) -> dict:
        """Load a checkpoint of this toolbox into the model; every tensor must fit.

        Differs from mmengine: nothing in the file is executed, and missing, unexpected or mis-shaped tensors are an
        error whatever ``strict`` says. Weights of other origin enter a model through ``graft``.

        Raises:
            CheckpointError: If the file cannot be read or does not fit the model.
        """
        content = read_plain(filename)
        try:
            load_weights(self, content, filename)
        except CheckpointError as error:
            if 'state_dict' not in content or not hasattr(unwrapped_model(self), 'set_up_graft'):
                raise
            raise CheckpointError(
                f'{error}. load_from takes whole models only; to start from the encoder alone: model.graft='
                f'[dict(checkpoint={filename!r})] instead, or tools/finetune.py'
            ) from error
        return content

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = 'default',
    ) -> None:
        """Continue from a checkpoint, see :func:`mmselfsup_graft.engine.resuming.resume.resume`.

        Raises:
            CheckpointError: If the file is not a whole checkpoint of such a run; nothing is loaded then.
            ConfigError: If the run has other data, another batch, or other rates than the first start.
        """
        self.resumed_from = filename
        with safe_torch_load():
            resume(self, filename, read_plain(filename), resume_optimizer, resume_param_scheduler)

    def load_or_resume(self) -> None:
        """Resume if asked to; otherwise start, from ``load_from`` if it is set.

        ``resume=True`` takes the newest checkpoint of the work directory, or the one before if the newest is damaged,
        and starts from the beginning if there is none. With ``resume_from=FILE`` it takes that file or none. In
        mmengine ``load_from`` is also the file to resume; a run that starts from other weights could not be resumed.
        """
        if self._has_loaded:
            return
        named = self._named_source() if self._resume else None
        found = (named, read_plain(named)) if named else newest_readable_checkpoint(self) if self._resume else None
        if found is not None:
            self.resumed_from = found[0]
            with safe_torch_load():
                resume(self, *found)
            return
        if self._resume:
            self.logger.info(f'nothing to resume in {self.work_dir}: starting from the beginning')
            self._resume = False
        newest = latest_checkpoint(self.work_dir, self.cfg)
        if newest is not None and isinstance(self._train_loop, BaseLoop):  # not when testing
            self.logger.warning(f'{newest} of an earlier run is not used: this run starts from the beginning')
        if self._load_from is not None and named is None:
            with safe_torch_load():
                self.load_checkpoint(self._load_from)
            self._has_loaded = True

    def _resume_source(self) -> str | None:
        """The checkpoint to continue from, if that is asked for and there is one."""
        if not self._resume:
            return None
        return self._named_source() or latest_checkpoint(self.work_dir, self.cfg)

    def _named_source(self) -> str | None:
        """The checkpoint that is named to continue from.

        Our tools name it in ``resume_from``; those of MMDetection and MMSegmentation in ``load_from``, which here is
        what a run starts from.
        """
        ours = 'resume_from' in self.cfg or self.cfg.get('default_scope') not in ('mmdet', 'mmseg')
        return self.cfg.get('resume_from') if ours else self._load_from
