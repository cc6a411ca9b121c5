"""Summary of a training run, logged before its first step."""

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.engine.console import log_file_of
from mmselfsup_graft.engine.run_parts import (
    batch_size_of,
    images_left_out,
    optim_wrappers,
    param_groups_of,
    unwrapped_model,
)
from mmselfsup_graft.registry import HOOKS

_ENDLESS = 10**9  # mmengine's value for a schedule without end


@HOOKS.register_module()
class RunSummaryHook(Hook):
    """Log model, images, steps, batch, rate, device, precision and where the run writes, before the first step.

    :class:`GraftRunner` has it in every run.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Log the summary."""
        if is_main_process():
            rows = run_summary(runner)
            width = max(map(len, rows))
            lines = [f'  {name:{width}}  {text}' for name, text in rows.items()]
            runner.logger.info('\n'.join(['training', *lines]))
            note = _other_end(runner)
            if note:
                runner.logger.warning(note)


def run_summary(runner: Runner) -> dict[str, str]:
    """Summary of a training run, name -> text; for a resumed run including the remaining work."""
    rows = {
        'model': _model(runner),
        'images': _images(runner),
        'steps': _steps(runner),
        'batch': _batch(runner),
        'learning rate': _rates(runner),
        'device': _device(runner),
        'writes to': str(runner.work_dir),
    }
    file = log_file_of(runner.logger)
    return {**rows, 'full log': file} if file else rows


def _model(runner: Runner) -> str:
    model = unwrapped_model(runner)
    backbone = getattr(model, 'backbone', None)
    name = type(model).__name__ + ('' if backbone is None else f' with {type(backbone).__name__}')
    parameters = list(model.parameters())
    whole, trained = (sum(p.numel() for p in parameters if p.requires_grad or all_) for all_ in (True, False))
    return f'{name}, {whole:,} parameters' + ('' if whole == trained else f', {trained:,} of them trained')


def _images(runner: Runner) -> str:
    dataset = runner.train_dataloader.dataset
    if not isinstance(dataset, SelfSupDataset):
        return f'{len(dataset):,}'
    return dataset.describe(with_names=False) + (f', in {dataset.data_root}' if dataset.data_root else '')


def _batch(runner: Runner) -> str:
    size = batch_size_of(runner.train_dataloader)
    parts = [f'{size} images' if size else 'unknown size']
    parts += [f'{runner.world_size} processes'] if runner.world_size > 1 else []
    accumulated = max(each._accumulative_counts for each in optim_wrappers(runner.optim_wrapper))
    parts += [f'{accumulated} micro-batches per step'] if accumulated > 1 else []
    return ' x '.join(parts)


def _steps(runner: Runner) -> str:
    loop = runner.train_loop
    whole = f'{runner.max_iters:,}'
    if isinstance(loop, EpochBasedTrainLoop):
        whole += f' in {loop.max_epochs:,} epoch{"s" if loop.max_epochs > 1 else ""}'
    left_out = images_left_out(runner) if isinstance(loop, EpochBasedTrainLoop) else 0
    whole += f'; {left_out:,} images are left out of every epoch (incomplete batch)' if left_out else ''
    return whole if not runner.iter else f'{whole}, continued after step {runner.iter:,}'


def _rates(runner: Runner) -> str:
    groups = [group for group in param_groups_of(runner.optim_wrapper) if group['params']]
    rates = sorted({float(group.get('initial_lr', group['lr'])) for group in groups})
    text = f'{rates[-1]:.3g}' if len(rates) == 1 else f'{rates[0]:.3g} to {rates[-1]:.3g} by layer'
    return f'{text} at its peak, {type(optim_wrappers(runner.optim_wrapper)[0].optimizer).__name__}'


def _other_end(runner: Runner) -> str | None:
    """Warning about a learning-rate schedule whose length differs from that of the training."""
    given = runner.param_schedulers or []
    schedules = [each for group in given.values() for each in group] if isinstance(given, dict) else given
    rates = [each for each in schedules if each.param_name == 'lr' and each.end < _ENDLESS]
    if not rates:
        return None
    last = max(rates, key=lambda each: each.end * (1 if not each.by_epoch else runner.max_iters / runner.max_epochs))
    total, unit = (runner.max_epochs, 'epochs') if last.by_epoch else (runner.max_iters, 'iterations')
    if last.end == total:
        return None
    return (
        f'the learning-rate schedule is {last.end} {unit} long, the training {total}; --epochs N instead of '
        'train_cfg.max_epochs=N lets the schedule follow'
    )


def _device(runner: Runner) -> str:
    half: Any = getattr(optim_wrappers(runner.optim_wrapper)[0], 'dtype', None)
    device = next(unwrapped_model(runner).parameters()).device
    return f'{device}, {str(half or "float32").removeprefix("torch.")}'
