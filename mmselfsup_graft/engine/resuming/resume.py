"""Resuming a run: the file is checked against the run first, then loaded.

mmengine's ``Runner.resume`` is not called. It executes config texts in the file, loads the states one
after the other, and takes the fields of schedules from the file whatever the config has.
"""

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.engine.execution.sharding import is_sharded, shared_moments, shared_weights
from mmselfsup_graft.engine.run_parts import param_groups_of, unwrapped_model
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.libraries.weight_files import is_address, refuse_address

from .continued_schedules import advance
from .fingerprint import check_fingerprint, run_fingerprint
from .latest import checkpoints_of
from .stored_log import check_best, check_iteration, place_files, stored_log
from .stored_states import check_averages, check_state, stored_counters, training_content
from .stored_updates import (
    check_all_schedules,
    check_options,
    checked_moments,
    initial_scale,
    other_schedules,
    schedule_pairs,
)
from .stored_values import kind_of, plain_copy, without_tensors

_REMEDY = 'it cannot be resumed; use another checkpoint of the run'
_DESCRIPTIONS = ('meta', 'param_schedulers')  # parts without tensors
_TEXTS = ('config', 'cfg')  # of meta: texts of a config, which mmengine executes in some places


def read_plain(filename: str) -> dict[str, Any]:
    """A checkpoint as plain data in new containers, without the text of a config.

    Raises:
        CheckpointError: If it is an address, or cannot be read.
    """
    if is_address(filename):
        raise refuse_address(filename)
    content = plain_copy(read_checkpoint(filename, remedy=_REMEDY), filename)
    for part in _DESCRIPTIONS:
        if part in content:
            content[part] = without_tensors(content[part])
    meta = content.get('meta')
    if isinstance(meta, dict):
        content['meta'] = {key: value for key, value in meta.items() if key not in _TEXTS}
    return content


def newest_readable_checkpoint(runner: Runner) -> tuple[str, dict[str, Any]] | None:
    """The newest checkpoint of a run that can be read, and its content; None if the run has none.

    Raises:
        CheckpointError: If there are checkpoints and none of them can be read.
    """
    damaged: list[tuple[str, CheckpointError]] = []
    for path in checkpoints_of(runner.work_dir, runner.cfg):
        try:
            content = read_plain(path)
        except CheckpointError as error:
            damaged.append((path, error))
            continue
        if damaged:
            runner.logger.warning(f'{damaged[0][1]}. Resuming from the previous readable one, {path}')
        return path, content
    if damaged:
        raise CheckpointError(
            f'none of the {len(damaged)} checkpoints of {runner.work_dir} can be read; the newest: {damaged[0][1]}. '
            'To start from the beginning, leave out --resume'
        )
    return None


def load_weights(runner: Runner, content: dict[str, Any], filename: str) -> None:
    """Load the weights of a checkpoint; every tensor must fit, floating-point types may differ.

    Raises:
        CheckpointError: If there are none, they do not fit the model, or a parameter holds NaN or infinity.
    """
    if 'state_dict' not in content:
        raise CheckpointError(
            f'{filename} is not a checkpoint of a training run of this toolbox (no state_dict); '
            'foreign weights to start from go into model.graft, or --pretrained for detectors and segmentors'
        )
    if not isinstance(content.get('meta', {}), dict):
        raise CheckpointError(f'{filename} is damaged: its meta is {kind_of(content["meta"])}, expected a dict')
    model = unwrapped_model(runner)
    names = [name for name, _ in model.named_parameters()]
    check_state(content['state_dict'], model.state_dict(), filename, False, names)
    runner.call_hook('after_load_checkpoint', checkpoint=content)
    _load(runner, content, filename)


def resume(
    runner: Runner, filename: str, content: dict[str, Any], with_optimizer: bool = True, with_schedules: bool = True
) -> None:
    """Continue a run from a checkpoint.

    Args:
        runner: With its training loop built.
        filename: For messages.
        content: Result of :func:`read_plain`; it is modified.
        with_optimizer, with_schedules: Whether their states are loaded as well.

    Raises:
        CheckpointError: If the file is not a complete checkpoint of such a run.
        ConfigError: If the run has other data, another batch, or other rates than the first start.
    """
    loop, model, meta = runner.train_loop, unwrapped_model(runner), content.get('meta')
    with_optimizer = with_optimizer and ('optimizer' in content or _keeps_optimizer(runner))
    training_content(content, filename, with_optimizer)
    meta = content['meta']
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    anyway = runner.cfg.get('resume_anyway') is True
    differing = check_fingerprint(_stored_fingerprint(meta), run_fingerprint(runner) or {}, filename, anyway)
    epoch, iteration = _counters(meta, loop, filename, bool(differing))
    seed = _stored_seed(meta, filename)
    names = [name for name, _ in model.named_parameters()]
    check_state(content['state_dict'], model.state_dict(), filename, True, names)
    log = stored_log(content.get('message_hub'), filename)
    check_iteration(content.get('message_hub'), meta['iter'], filename)
    check_averages(content, runner.hooks, filename, model)
    best = check_best(log, runner.hooks, epoch, filename, anyway)
    place_files(log['runtime_info'], runner.hooks, runner.work_dir)
    moments = checked_moments(runner, content, filename, anyway) if with_optimizer else None
    follow = bool(differing) or not with_schedules or other_schedules(runner, content)
    if runner.param_schedulers is not None and not follow:
        check_all_schedules(runner, content, filename, epoch, iteration)
    options = check_options(runner, content, moments, filename, follow, anyway)
    differing, follow = differing + options + best, follow or bool(options)

    # everything fits: no check fails from here on
    for difference in differing:
        runner.logger.warning(f'resume_anyway: {difference}')
    runner.call_hook('after_load_checkpoint', checkpoint=content)
    _load(runner, content, filename)
    loop._epoch, loop._iter = epoch, iteration
    _take_seed(runner, seed)
    _warn_of_classes(runner, meta.get('dataset_meta'))
    runner.message_hub.load_state_dict(log)
    if moments is not None:
        _load_moments(runner, moments, follow)
    if runner.param_schedulers is not None and with_schedules:
        _continue_schedules(runner, content, follow)
    runner._has_loaded = True
    runner.logger.info(f'resumed epoch: {epoch}, iter: {iteration}')


def _keeps_optimizer(runner: Runner) -> bool:
    saving = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return all(getattr(hook, 'save_optimizer', True) for hook in saving)


def _load(runner: Runner, content: dict[str, Any], filename: str) -> None:
    model = unwrapped_model(runner)
    model.load_state_dict(shared_weights(content['state_dict'], model))
    runner.logger.info(f'loaded {len(content["state_dict"])} tensors from {filename}')


# ---------------------------------------------------------------- counters
def _stored_fingerprint(meta: Mapping[str, Any]) -> Any:
    """The fingerprint of a file; for older files its batch, if present."""
    batch = meta.get('batch')
    if 'run' in meta or not isinstance(batch, dict):
        return meta.get('run')
    return {'images per process': batch.get('size'), 'processes': batch.get('processes')}


def _counters(meta: Mapping[str, Any], loop: Any, filename: str, changed: bool) -> tuple[int, int]:
    """Epoch and iteration to continue from; with other data the beginning of the epoch."""
    if not changed or not isinstance(loop, EpochBasedTrainLoop):
        return stored_counters(meta, loop, filename)
    epoch, _ = stored_counters(meta, loop, filename, same_length=False)
    return epoch, epoch * len(loop.dataloader)


def _stored_seed(meta: Mapping[str, Any], filename: str) -> int | None:
    seed = meta.get('seed')
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**32):
        raise CheckpointError(f'{filename} cannot be resumed: its seed is {kind_of(seed)}, expected a whole number')
    return seed


def _take_seed(runner: Runner, seed: int | None) -> None:
    """Continue with the seed of the first start, on which order and augmentations depend."""
    current = runner._randomness_cfg.get('seed')
    if seed is None or seed == current:
        return
    if current is not None:
        runner.logger.warning(f'the seed of the checkpoint, {seed}, is used instead of that of the config, {current}')
    runner._randomness_cfg.update(seed=seed)
    runner.set_randomness(**runner._randomness_cfg)


def _warn_of_classes(runner: Runner, before: Any) -> None:
    now = getattr(runner.train_dataloader.dataset, 'metainfo', None)
    if isinstance(before, dict) and isinstance(now, dict):
        now = without_tensors(plain_copy(now, 'the data set'))
        differing = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if differing:
            runner.logger.warning(
                f'{", ".join(map(str, differing))} of the data set (metainfo) differ from those of the checkpoint'
            )


# ---------------------------------------------------------------- optimizer and schedules
def _load_moments(runner: Runner, states: dict[str, Any], follow: bool) -> None:
    wrapper = runner.optim_wrapper
    several = isinstance(wrapper, OptimWrapperDict)
    pairs = [(wrapper[name], states[name]) for name in states] if several else [(wrapper, states)]
    for each, state in pairs:
        scale = initial_scale(state, each)
        if scale is not None:
            runner.logger.warning(
                f'the run of the checkpoint used no loss scale, float16 in this run does: it starts at {scale:g}'
            )
        if follow:  # use rates and other values of this config, from which the schedule is recomputed
            state.pop('base_param_settings', None)
            state['param_groups'] = [
                {**{key: value for key, value in own.items() if key != 'params'}, 'params': group['params']}
                for group, own in zip(state['param_groups'], each.optimizer.param_groups)
            ]
        if is_sharded(unwrapped_model(runner)):
            state = shared_moments(state, each.optimizer)
        each.load_state_dict(state)


def _continue_schedules(runner: Runner, content: dict[str, Any], follow: bool) -> None:
    """Load the states of the schedules, or advance those of this config."""
    pairs = schedule_pairs(runner, content.get('param_schedulers'))
    if not follow:
        for saved, own in pairs:
            for state, scheduler in zip(saved, own):
                # dicts hold lengths, which are equal; mmengine's have their own class
                mine = {k for k, v in vars(scheduler).items() if isinstance(v, dict) or callable(v)} | {'verbose'}
                scheduler.load_state_dict({k: v for k, v in state.items() if k not in mine})
        return
    for _, own in pairs:
        advance(own, runner.iter, runner.epoch)
    before, now = _stored_rate(content), _rate(runner)
    change = '' if before is None else f' (it was {before:.3g} in the checkpoint)'
    runner.logger.warning(
        f'the learning-rate schedule is that of this config, over {_length(runner)}, continued after '
        f'{runner.iter} iterations: the largest rate is now {now:.3g}{change}'
    )


def _length(runner: Runner) -> str:
    loop = runner.train_loop
    return f'{loop.max_epochs} epochs' if isinstance(loop, EpochBasedTrainLoop) else f'{runner.max_iters} iterations'


def _rate(runner: Runner) -> float:
    return max(float(group['lr']) for group in param_groups_of(runner.optim_wrapper))


def _stored_rate(content: dict[str, Any]) -> float | None:
    groups = content['optimizer'].get('param_groups') if isinstance(content.get('optimizer'), dict) else None
    rates = [group.get('lr') for group in groups or [] if isinstance(group, dict)]
    return max((float(rate) for rate in rates if isinstance(rate, int | float)), default=None)
