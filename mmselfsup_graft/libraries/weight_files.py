"""Weight files that mmengine, mmdet, mmseg, mmpretrain and mmcv read: all go through the safe reader.

These libraries read every weight file through ``CheckpointLoader.load_checkpoint`` of
``mmengine.runner.checkpoint``: ``load_checkpoint`` and ``_load_checkpoint`` call it (``load_from``, ``init_detector``,
``get_model``, ``teacher_ckpt``, inferencers), ``init_cfg`` of type ``Pretrained`` calls those, and the ``init_weights``
of backbones that read files themselves call it directly. All of them refer to the class, so
replacing one of its methods is enough. It is replaced when the package's models or engine are imported, or when
``custom_imports`` of a config imports this module. The two functions below it that unpickle, ``_safe_torch_load`` and
``load_url``, are replaced as well, for direct callers.

mmengine reads a file that needs code to be run by running that code. Here such a file is an error. An address is an
error too: its content is unknown before the download, and there is no hash to compare it with.

Libraries that do not use mmengine's loader (timm, torch.hub) are covered by :func:`safe_torch_load` while a runner
builds a model and loads its weights.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.runner import checkpoint as mmengine_files
from mmengine.utils import apply_to

from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.checkpoints.finite_values import MODEL_BUFFERS, are_steps, check_weights, refuse_other_values
from mmselfsup_graft.checkpoints.reading.reader import PUBLISH
from mmselfsup_graft.errors import CheckpointError

_ADDRESS = re.compile(r'\s*[A-Za-z][\w.+-]*(:[\w.+-]+)*:/')
_READER = 'mmselfsup_graft.checkpoints.'  # where unsafe_pickle=True of a graft applies
_TEXTS = ('config', 'cfg')
_FILES = ('best_ckpt', 'best_file', 'last_ckpt')  # names of checkpoints that mmengine's hook deletes later
_STEPS = 'keep_ckpt_ids'  # epochs or iterations of such checkpoints
_WEIGHTS = ('state_dict', 'ema_state_dict', 'model', 'model_ema', 'module')


def is_address(source: Any) -> bool:
    """Whether this is an address to download (``https://``, ``torchvision://``, ``s3://``) and not a file."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def refuse_address(source: str) -> CheckpointError:
    """The error for an address where a file of weights is expected."""
    return CheckpointError(
        f'the weights {source} are an address, expected a file: downloads are disabled, as their content would be '
        'unchecked. Download the file, compare its hash with the one that its publisher states, and give its path'
    )


def read_for_library(filename: Any, map_location: Any = None, logger: Any = None) -> dict[str, Any]:
    """Replacement of ``CheckpointLoader.load_checkpoint``: reads a file without running code.

    Config texts are left out, as mmengine's inferencers and ``Runner.resume`` execute them. Names of other checkpoints
    are left out too, as a resumed run deletes them when it has newer or better ones; checkpoints that are listed by
    epoch or iteration are in its own folder, and stay.

    Args:
        filename: Path of a file.
        map_location: A device; anything else leaves the tensors on the CPU.
        logger: Not used.

    Raises:
        CheckpointError: For an address, a file that cannot be read or would run code, or weights that are not finite
            floating-point numbers; buffers may hold integers. Or if ``keep_ckpt_ids`` of mmengine's checkpoint
            hook is not a list of whole numbers.
    """
    if is_address(filename):
        raise refuse_address(filename)
    content = _without_texts(read_checkpoint(filename, remedy=PUBLISH))
    _check_steps(content.get('message_hub'), filename)
    for state in (content, *map(content.get, _WEIGHTS)):
        if isinstance(state, dict):
            refuse_other_values(str(filename), state)
            tensors = {str(name): each for name, each in state.items() if isinstance(each, torch.Tensor)}
            check_weights(str(filename), tensors, MODEL_BUFFERS)
    if not isinstance(map_location, str | torch.device) or torch.device(map_location).type == 'cpu':
        return content
    return apply_to(content, lambda each: isinstance(each, torch.Tensor), lambda each: each.to(map_location))


def _without_texts(content: dict[str, Any]) -> dict[str, Any]:
    """The content without ``meta.config``, ``meta.cfg`` and ``message_hub.runtime_info.cfg``; a copy.

    Names of files to delete are left out of ``message_hub.runtime_info`` as well.
    """
    content = dict(dict.items(content))
    for key in ('meta', 'message_hub'):
        part = content.get(key)
        if isinstance(part, dict):
            content[key] = part = {k: v for k, v in dict.items(part) if k not in _TEXTS}
            info = part.get('runtime_info')
            if isinstance(info, dict):
                kept = {k: v for k, v in dict.items(info) if k not in _TEXTS}
                part['runtime_info'] = {k: v for k, v in kept.items() if not str(k).startswith(_FILES)}
    return content


def _check_steps(hub: Any, filename: Any) -> None:
    info = hub.get('runtime_info') if isinstance(hub, dict) else None
    steps = info.get(_STEPS, []) if isinstance(info, dict) else []
    if not are_steps(steps):
        raise CheckpointError(
            f'{filename} cannot be used: its message_hub.runtime_info.{_STEPS} is a {type(steps).__name__}, expected a '
            'list of whole numbers; the file is damaged, use another one'
        )


def _read_local(file: Any, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
    """Replacement of mmengine's ``_safe_torch_load``."""
    if hasattr(file, 'read'):  # a stream from an object store
        raise refuse_address(str(getattr(file, 'name', 'of a stream')))
    return read_for_library(file, map_location)


def _refuse_url(url: str, *args: Any, **kwargs: Any) -> Any:
    """Replacement of ``load_url``, which downloads."""
    raise refuse_address(url)


def guard_libraries() -> None:
    """Replace mmengine's reader by the safe one; runs when this package is imported, a second call changes nothing."""
    loader: Any = mmengine_files.CheckpointLoader
    loader.load_checkpoint = staticmethod(read_for_library)
    replaced: Any = mmengine_files
    replaced._safe_torch_load = _read_local
    replaced.load_url = _refuse_url


@contextmanager
def safe_torch_load() -> Iterator[None]:
    """Within the block, let ``torch.load`` read only weights and ``torch.hub`` download nothing.

    This complements :func:`guard_libraries` for libraries that do not use mmengine's loader. A caller's
    ``weights_only=False`` is ignored, except that of our own reader, where a graft sets ``unsafe_pickle=True``.
    """
    load, fetch = torch.load, torch.hub.download_url_to_file

    def load_weights(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get('__name__', '')
        if not caller.startswith(_READER):
            kwargs['weights_only'] = True
            kwargs.pop('pickle_module', None)
        return load(*args, **kwargs)

    def refuse(url: str, *args: Any, **kwargs: Any) -> None:
        raise refuse_address(url)

    torch.load, torch.hub.download_url_to_file = load_weights, refuse
    try:
        yield
    finally:
        torch.load, torch.hub.download_url_to_file = load, fetch


guard_libraries()
