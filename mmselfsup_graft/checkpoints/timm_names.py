"""Encoders under timm's own names, as a backbone that holds a timm model has them: ``timm_model.blocks.0...``."""

from collections.abc import Iterable
from dataclasses import replace

from mmselfsup_graft.errors import CheckpointError

from .conversion.targets import TARGETS, to_target
from .families import MASK_TOKENS, TIMM_PREFIX
from .formats.encoder import Encoder, to_encoder


def holds_timm_model(names: Iterable[str]) -> bool:
    """Whether the names are those of a backbone that holds a timm model."""
    return any(name.startswith(TIMM_PREFIX) for name in names)


def with_names_of(encoder: Encoder, names: Iterable[str]) -> Encoder:
    """An encoder with the names that a backbone expects: timm's if it holds a timm model, canonical ones otherwise.

    Args:
        encoder: Under canonical names or timm's.
        names: Names of the backbone's tensors.

    Raises:
        CheckpointError: If the family of the encoder has no names of the other kind.
    """
    wanted, given = holds_timm_model(names), holds_timm_model(entry.name for entry in encoder.entries)
    if wanted == given:
        return encoder
    return _timm(encoder) if wanted else canonical(encoder)


def _timm(encoder: Encoder) -> Encoder:
    entries = to_target(encoder, TARGETS['timm'])
    return replace(encoder, entries=[replace(entry, name=TIMM_PREFIX + entry.name) for entry in entries])


def canonical(encoder: Encoder) -> Encoder:
    """An encoder of a timm model under canonical names; others are returned unchanged.

    Raises:
        CheckpointError: If it is of a family that has no canonical names.
    """
    if not holds_timm_model(entry.name for entry in encoder.entries):
        return encoder
    sources = {e.name.removeprefix(TIMM_PREFIX): e.origins for e in encoder.entries if e.name not in MASK_TOKENS}
    state = {e.name.removeprefix(TIMM_PREFIX): e.tensor for e in encoder.entries if e.name not in MASK_TOKENS}
    try:
        found = to_encoder({'state_dict': state}, encoder.origin, grid=encoder.traits.grid)
    except CheckpointError as error:
        raise CheckpointError(
            f'{encoder.origin} holds a model of timm that only timm and TimmBackbone can take ({error}); use '
            'backbone=dict(type="TimmBackbone", ...), or convert it with --to timm'
        ) from error
    entries = [
        replace(
            entry,
            origins=tuple((source, op) for name, op in entry.origins for source, _ in sources[name]),
        )
        for entry in found.entries
    ]
    return replace(
        encoder,
        entries=entries,
        dropped=(*encoder.dropped, *(source for name in found.dropped for source, _ in sources[name])),
        traits=replace(encoder.traits, grid=found.traits.grid),
        notes=(*encoder.notes, *found.notes),
    )
