"""Optimizer and schedules of a checkpoint, checked against the run that loads them."""

from typing import Any

from mmengine.hooks import ParamSchedulerHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from mmselfsup_graft.engine.run_parts import optim_wrappers, unwrapped_model
from mmselfsup_graft.errors import CheckpointError

from .continued_schedules import other_lengths
from .fingerprint import stored_entries, stored_scalers, stored_steps
from .stored_optimizer import checked_optimizer
from .stored_options import differing_options, differing_schedules, differing_values
from .stored_states import check_schedules
from .stored_values import kind_of


def checked_moments(runner: Runner, content: dict[str, Any], filename: str, anyway: bool) -> dict[str, Any]:
    """The optimizer state of a file, complete for all parameters.

    Raises:
        CheckpointError: If it does not fit the run, see :func:`checked_optimizer`, or is incomplete.
    """
    state, meta, wrapper = content['optimizer'], content['meta'], runner.optim_wrapper
    # several optimizers may step several times per iteration, and a run that was resumed anyway with another batch
    # restarts its iterations; files without a step count are of older versions
    several = isinstance(wrapper, OptimWrapperDict)
    steps = meta.get('optimizer_steps', None if several or anyway else meta['iter'])
    if steps is not None and type(steps) is not int:
        raise CheckpointError(
            f'{filename} cannot be resumed: its meta.optimizer_steps is {kind_of(steps)}, expected a whole number'
        )
    first = max(each._accumulative_counts for each in optim_wrappers(wrapper))
    fresh = 'optimizer_entries' in meta or meta['iter'] < first
    checked = checked_optimizer(state, wrapper, unwrapped_model(runner), filename, steps, fresh)
    wanted, found = meta.get('optimizer_entries'), stored_entries(checked)
    if wanted is not None and wanted != found:
        raise CheckpointError(
            f'{filename} cannot be resumed: it has the optimizer state of {found} parameters, expected {wanted}; '
            'the file is damaged, resume from another one'
        )
    if 'optimizer_steps' in meta and steps is not None and stored_steps(checked) != steps:
        raise CheckpointError(
            f'{filename} cannot be resumed: its optimizer has made {stored_steps(checked)} steps, expected {steps} '
            '(meta.optimizer_steps); the file is damaged, resume from another one'
        )
    scalers = stored_scalers(state)
    if 'loss_scalers' in meta and (type(meta['loss_scalers']) is not int or meta['loss_scalers'] != scalers):
        raise CheckpointError(
            f'{filename} cannot be resumed: it has {scalers} loss scalers, expected {kind_of(meta["loss_scalers"])} '
            '(meta.loss_scalers); the file is damaged, resume from another one'
        )
    return checked


def check_options(
    runner: Runner, content: dict[str, Any], moments: dict[str, Any] | None, filename: str, follow: bool, anyway: bool
) -> list[str]:
    """Compare options of the optimizer and settings of the schedules with those of the run.

    Args:
        runner: With its optimizer and schedules built.
        content: Of the file.
        moments: Of :func:`checked_moments`; None if they are not loaded.
        filename: For the message.
        follow: Whether rates and schedules of the config are used; then they are not compared.
        anyway: Return the differences instead of raising an error.

    Returns:
        Descriptions of the differences.

    Raises:
        CheckpointError: If something differs and ``anyway`` is not set.
    """
    wrapper, fingerprint = runner.optim_wrapper, isinstance(content['meta'].get('run'), dict)
    if isinstance(wrapper, OptimWrapperDict):
        several = list(wrapper.items())
        own = runner.param_schedulers
        parts = [(each, name, own.get(name, []) if isinstance(own, dict) else []) for name, each in several]
    else:
        parts = [(wrapper, None, runner.param_schedulers or [])]
    found = []
    for each, name, schedules in parts:
        saved = content.get('param_schedulers') or []
        saved = saved.get(name, []) if isinstance(saved, dict) else saved
        groups = _groups(moments, content['optimizer'], name) if moments is not None else []
        found += differing_options(groups, each, schedules, fingerprint)
        if not follow:
            found += differing_schedules(saved, schedules, groups)
            found += differing_values(groups, saved, schedules, each)
    if found and not anyway:
        more = f' (and {len(found) - 1} more)' if len(found) > 1 else ''
        raise CheckpointError(
            f'{filename} cannot be resumed: {found[0]}{more}. Use the values of the first start, or resume_anyway=True '
            '(--cfg-options resume_anyway=True) to continue with the weights, moments and epoch of the file, and the '
            'options and schedule of this config; a file that was not written with the former values is damaged'
        )
    return found


def initial_scale(moments: dict[str, Any], wrapper: OptimWrapper) -> float | None:
    """The loss scale from which this run starts, where the resumed one had none; None if it uses none or has one.

    Args:
        moments: Of one optimizer, of :func:`checked_moments`.
        wrapper: Of the run, as it was built.
    """
    scaler = getattr(wrapper, 'loss_scaler', None)
    if scaler is None or not scaler.is_enabled() or 'loss_scaler' in moments or not moments['state']:
        return None
    return scaler.get_scale()


def _groups(moments: dict[str, Any], stored: dict[str, Any], name: str | None) -> list[dict[str, Any]]:
    """Parameter groups of a file, and the group of values without parameters if present."""
    if name is not None:
        moments, stored = moments[name], stored[name]
    base = (
        [moments['base_param_settings']] if 'base_param_settings' in moments and 'base_param_settings' in stored else []
    )
    return [*moments['param_groups'], *base]


def schedule_pairs(runner: Runner, saved: Any) -> list[tuple[Any, list]]:
    """(states of a file, schedules of the run) for each optimizer."""
    own = runner.param_schedulers
    if isinstance(own, dict):
        return [(saved.get(name) if isinstance(saved, dict) else None, each) for name, each in own.items()]
    return [(saved, own)]


def other_schedules(runner: Runner, content: dict[str, Any]) -> bool:
    """Whether the schedules of the file cannot be continued: other lengths, or missing."""
    if runner.param_schedulers is None:
        return False
    for saved, own in schedule_pairs(runner, content.get('param_schedulers')):
        whole = isinstance(saved, list) and all(isinstance(each, dict) for each in saved)
        if saved is None or (whole and other_lengths(saved, own)):  # incomplete states fail the check
            return True
    return False


def check_all_schedules(runner: Runner, content: dict[str, Any], filename: str, epoch: int, iteration: int) -> None:
    """Check the schedules of every optimizer, see :func:`check_schedules`.

    Raises:
        CheckpointError: If they do not fit the run.
    """
    stepped = any(isinstance(hook, ParamSchedulerHook) for hook in runner.hooks)
    for saved, own in schedule_pairs(runner, content.get('param_schedulers')):
        if not isinstance(saved, list) or len(saved) != len(own):
            raise CheckpointError(
                f'{filename} cannot be resumed: param_schedulers is {kind_of(saved)}, expected a list of {len(own)}'
            )
        check_schedules(saved, own, filename, epoch, iteration, stepped)
