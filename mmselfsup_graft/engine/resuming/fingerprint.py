"""Fingerprint of a run: data, batch, pipeline, model, rates; stored in checkpoints, must be equal in a resumed run."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.runner import BaseLoop, Runner

from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.engine.run_parts import batch_size_of, optim_wrappers, param_groups_of
from mmselfsup_graft.errors import ConfigError, GraftError
from mmselfsup_graft.utils.files import open_regular

_LENGTHS = ('begin', 'end', 'T_max', 'warmup', 'milestones', 'step_size')  # these may change: the schedule adapts
_MOST = 200  # characters of a value in a message
_LOOKED_INTO = 16  # images whose content is compared
# keys of a model that are not compared: sources of initial weights, or values that are compared separately
_NOT_COMPARED = ('init_cfg', 'pretrained', 'checkpoint', 'base_checkpoint', 'data_preprocessor')


def run_fingerprint(runner: Runner) -> dict[str, Any] | None:
    """Settings that define an iteration of this run, as plain data; None outside of training.

    The list of samples is represented by its hash: names relative to the data set's folder, so that the folder may
    move. The content of some images is hashed as well, to detect another folder with the same names.
    """
    loop = runner._train_loop
    if loop is None or not isinstance(loop, BaseLoop):
        return None
    loader, cfg = runner.train_dataloader, runner.cfg
    data = cfg.get('train_dataloader') or {}
    dataset = data.get('dataset') or {}
    wrappers = optim_wrappers(runner.optim_wrapper)
    groups = param_groups_of(runner.optim_wrapper)
    return {
        'model.type': _plain((cfg.get('model') or {}).get('type')),
        'samples': len(loader.dataset),
        'sample list (SHA-256)': _hash_of(loader.dataset, _sample_list),
        f'content of {_LOOKED_INTO} images (SHA-256)': _hash_of(loader.dataset, _some_content),
        'images per process': batch_size_of(loader),
        'processes': runner.world_size,
        'accumulated micro-batches': max(each._accumulative_counts for each in wrappers),
        'drop_last': getattr(loader, 'drop_last', None),
        'sampler': _plain(data.get('sampler')),
        'pipeline': _plain(dataset.get('pipeline')),
        'fast': _plain(dataset.get('fast', False)),
        'data preprocessor': _plain((cfg.get('model') or {}).get('data_preprocessor', cfg.get('data_preprocessor'))),
        'model': _compared(cfg.get('model')),
        'schedule': _without_lengths(cfg.get('param_scheduler')),
        'clip_grad': _plain((cfg.get('optim_wrapper') or {}).get('clip_grad')),
        'learning rates': sorted({group.get('initial_lr', group['lr']) for group in groups}),
    }


def stored_entries(state: Any) -> int:
    """Number of parameters that have an entry in an optimizer state, over all optimizers."""
    if not isinstance(state, Mapping):
        return 0
    if isinstance(state.get('state'), Mapping):
        return len(state['state'])
    return sum(stored_entries(each) for each in state.values() if isinstance(each, Mapping))


def stored_scalers(state: Any) -> int:
    """Number of loss scalers with a scale in an optimizer state, over all optimizers; without float16 there is none."""
    if not isinstance(state, Mapping):
        return 0
    if isinstance(state.get('state'), Mapping):
        return int(bool(state.get('loss_scaler')))
    return sum(stored_scalers(each) for each in state.values() if isinstance(each, Mapping))


def stored_steps(state: Any) -> int:
    """Largest step count of a parameter in an optimizer state; 0 if steps are not counted."""
    if not isinstance(state, Mapping):
        return 0
    if not isinstance(state.get('state'), Mapping):
        return max((stored_steps(each) for each in state.values()), default=0)
    return max((int(each['step']) for each in state['state'].values() if 'step' in each), default=0)


def check_fingerprint(before: Any, now: Mapping[str, Any], filename: str, anyway: bool) -> list[str]:
    """Compare the fingerprint of a checkpoint with that of the run.

    Args:
        before: What the file holds; anything but a dict is ignored, as files of older versions have no fingerprint.
        now: Of this run.
        filename: For the message.
        anyway: Return the differences instead of raising an error.

    Returns:
        Descriptions of the differences.

    Raises:
        ConfigError: If something differs and ``anyway`` is not set.
    """
    if not isinstance(before, dict):
        return []
    differing = [
        difference
        for key in now
        if key in before and (difference := first_difference(key, before[key], now[key])) is not None
    ]
    if differing and not anyway:
        more = f' (and {len(differing) - 1} more)' if len(differing) > 1 else ''
        raise ConfigError(
            f'cannot resume {filename}: {differing[0]}{more}. Use the values of '
            'the first start, or resume_anyway=True (--cfg-options resume_anyway=True) to continue with the weights, '
            'moments and epoch of the file, and the data, rates and schedule of this config'
        )
    return differing


def first_difference(where: str, before: Any, now: Any) -> str | None:
    """The first place where two plain values differ, with both values; None if they are equal."""
    if before == now:
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *before]:
            if before.get(key) != now.get(key):
                return first_difference(f'{where}.{key}', before.get(key), now.get(key))
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, pair in enumerate(zip(before, now)):
            if pair[0] != pair[1]:
                return first_difference(f'{where}[{number}]', *pair)
    return f'{where} was {_short(before)}, now it is {_short(now)}'


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST else f'{text[:_MOST]}...'


def _plain(value: Any) -> Any:
    """A part of a config as plain data; classes and functions by their names."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    name = getattr(value, '__qualname__', None)
    return f'{value.__module__}.{name}' if name else type(value).__name__


def _compared(value: Any) -> Any:
    """A model's config as plain data, without keys that a resumed run may change."""
    if isinstance(value, Mapping):
        return {str(key): _compared(each) for key, each in value.items() if key not in _NOT_COMPARED}
    if isinstance(value, list | tuple):
        return [_compared(each) for each in value]
    return _plain(value)


def _without_lengths(schedules: Any) -> Any:
    if isinstance(schedules, Mapping):
        return {
            str(k): _without_lengths(v) if isinstance(v, Mapping | list) else _plain(v)
            for k, v in schedules.items()
            if k not in _LENGTHS
        }
    if isinstance(schedules, list | tuple):
        return [_without_lengths(each) for each in schedules]
    return _plain(schedules)


def _hash_of(dataset: Any, made: Callable[[SelfSupDataset], str]) -> str | None:
    """A hash of the content of a data set of this toolbox, cached in it; None for others."""
    if not isinstance(dataset, SelfSupDataset):
        return None
    known = dataset.__dict__.setdefault('_hashes', {})
    if made.__name__ not in known:
        known[made.__name__] = made(dataset)
    return known[made.__name__]


def _sample_list(dataset: SelfSupDataset) -> str:
    """Hash of the names of the samples, or of their pixels if they are in memory, and of their labels, in order."""
    digest, root = hashlib.sha256(), str(getattr(dataset, 'data_root', '') or '')
    for number in range(len(dataset)):
        info = dataset.get_data_info(number)
        image = info.get('img')
        name = str(info.get('img_path') or info.get('number', number)).removeprefix(root).lstrip('/')
        digest.update(f'{name}\0{info.get("gt_label")}\n'.encode())
        if image is not None and hasattr(image, 'tobytes'):
            digest.update(image.tobytes())
    return digest.hexdigest()[:16]


def _some_content(dataset: SelfSupDataset) -> str:
    """Hash of the content of some images, spread over the data set."""
    digest, count = hashlib.sha256(), min(_LOOKED_INTO, len(dataset))
    for place in range(count):
        digest.update(hashlib.sha256(_content(dataset, place * len(dataset) // count)).digest())
    return digest.hexdigest()[:16]


def _content(dataset: SelfSupDataset, number: int) -> bytes:
    """Pixels or file of an image; empty if it cannot be read."""
    try:
        info = dataset.read_image(dataset.get_data_info(number))
        if 'img' in info:
            return info['img'].tobytes()
        if 'img_bytes' in info:
            return bytes(info['img_bytes'])
        with open_regular(info['img_path']) as file:
            return file.read()
    except (GraftError, OSError, KeyError):
        return b''
