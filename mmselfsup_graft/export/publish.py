"""Publishing a checkpoint: its weights without optimizer, schedules and logs."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmselfsup_graft.checkpoints import check_destination, read_checkpoint, save_weights, unwrap_state_dict
from mmselfsup_graft.checkpoints.conversion.convert_checkpoint import convert
from mmselfsup_graft.checkpoints.finite_values import MODEL_BUFFERS, check_weights
from mmselfsup_graft.checkpoints.formats.traits import read_traits
from mmselfsup_graft.checkpoints.reading.reader import ALLOW
from mmselfsup_graft.errors import CheckpointError
from mmselfsup_graft.libraries.scopes import register_all_modules
from mmselfsup_graft.targets.target_check import check_target_model
from mmselfsup_graft.targets.target_model import NoTargetModel
from mmselfsup_graft.version import __version__

# averaged copies and teachers are not part of the trained model: further training starts them again
_FOLLOWERS = r'(.*\.)?(momentum_encoder|encoder_k|queue\d?|queue\d?_ptr|teacher|target_net|target_generator)(\.|$)'
_PLAIN = (str, int, float, bool, type(None))


def publish_file(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    keep_followers: bool = False,
    overwrite: bool = False,
    unsafe_pickle: bool = False,
    unverified: bool = False,
) -> tuple[Path, str]:
    """Write the weights of a checkpoint under a name with a hash; without optimizer, schedules and logs.

    Args:
        source: Checkpoint of a training run.
        destination: File to write; ``-`` and 8 hex digits of its SHA-256 are appended to the name.
        keep_followers: Keep momentum encoders, queues and teachers.
        overwrite: Replace an existing file.
        unsafe_pickle: Allow the file to run code while it is read.
        unverified: Write even if no complete encoder is recognized.

    Returns:
        The file that was written, and notes about it.

    Raises:
        CheckpointError: If the file cannot be read, holds no weights, or the destination must not be written.
    """
    content = read_checkpoint(source, unsafe_pickle, ALLOW)
    check_destination(source, destination, overwrite)
    state = unwrap_state_dict(content, origin=str(source))
    if not state:
        raise CheckpointError(f'{source} holds no weights; check that it is a checkpoint')
    kept = {n: v for n, v in state.items() if keep_followers or not re.match(_FOLLOWERS, n)}
    if not kept:
        raise CheckpointError(f'{source} holds only momentum encoders, queues or teachers; see --keep-followers')
    check_weights(str(source), kept, MODEL_BUFFERS)
    meta = content.get('meta')
    told = _plain(meta) if isinstance(meta, Mapping) else {}
    if not unverified:
        _check_encoder(content, kept, str(source))
    traits = read_traits(content, str(source)).as_meta()
    told = {**told, 'encoder': traits} if traits else told
    path = save_weights(kept, {**told, 'published_by': f'mmselfsup_graft {__version__}'}, destination, overwrite, True)
    before, after = (os.path.getsize(file) / 2**20 for file in (source, path))
    text = (
        f'{len(kept)} tensors kept, {len(state) - len(kept)} of momentum encoders, queues and teachers left out\n'
        f'written: {path} ({after:.1f} MiB, before {before:.1f})'
    )
    return path, text


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values, which can be read without running code."""
    return {str(key): value for key, value in values.items() if isinstance(value, _PLAIN)}


def _check_encoder(content: Mapping[str, Any], kept: Mapping[str, Any], origin: str) -> None:
    """Raise an error for weights without a complete encoder.

    Raises:
        CheckpointError: In that case.
    """
    meta = content.get('meta')
    register_all_modules()
    try:
        fit = check_target_model(
            convert({'state_dict': kept, **({'meta': meta} if meta else {})}, origin, 'mmpretrain')
        )
    except NoTargetModel:
        return  # an encoder for which no model can be built to compare
    except CheckpointError as error:
        raise CheckpointError(f'nothing written: {error}; --unverified publishes the file as it is') from error
    if not fit.good:
        raise CheckpointError(
            f'nothing written: {origin} holds no whole encoder, {fit.problem()}; --unverified publishes the file as it '
            'is'
        )
