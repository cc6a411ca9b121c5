"""Locations of tensors in a file: the keys above them, and prefixes that wrappers add to their names.

Training codes store a model in many ways: under ``state_dict`` or ``model_ema``, inside a Lightning module, behind
``torch.compile`` and data parallel wrappers, beside an average of itself. :func:`find_matches` looks for an encoder of
a format in all these places, :func:`choose` selects one of them, or raises an error if several are possible.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmselfsup_graft.errors import CheckpointError

from .records import Branch, Format

StateDict = dict[str, torch.Tensor]

# keys above the tensors, the usual one first
WRAPPERS = ('state_dict', 'model', 'module', 'model_state_dict', 'model_state', 'net', 'network', 'params', 'weights')
# keys that hold tensors but no weights
_NO_WEIGHTS = re.compile(r'optim|sched|scaler|amp$|message_hub|meta$|rng|loss|hyper_?param|callbacks|config|args')
# averages and momentum encoders of a model, and the two networks of self-distillation
_TWIN = re.compile(r'(^|_)(ema|swa|k)($|_)|momentum|(^|_)mean_|average|shadow|target|key_encoder|moving')
_PAIR = re.compile(r'(student|teacher)')
# parts of a model that are not the encoder though they may look like one, and parts of an encoder
_OTHER_PART = re.compile(
    r'(timm_model|\w*decoder|neck|\w*head|projector|predictor|generator|discriminator|tokenizer|layers?\d*|stages|blocks|features)$'
)
# components that torch inserts into a name
_BETWEEN = re.compile(r'(?<=\.)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')
_DEPTH = 3


@dataclass(frozen=True)
class Holder:
    """A mapping in a file that holds tensors.

    Args:
        path: Keys that lead to it from the top of the file.
        state: Its tensors, without the components that ``torch.compile`` and others insert into their names.
        file_names: Name there -> name in the file.
    """

    path: tuple[str, ...]
    state: StateDict
    file_names: Mapping[str, str]


@dataclass(frozen=True)
class Match:
    """An encoder that was found.

    Args:
        branch: Which of the format's encoders.
        holder: Where.
        lead: Text before the format's own prefix.
        prefix: Text before the encoder's names, ``lead`` included.
    """

    branch: str
    holder: Holder
    lead: str
    prefix: str

    @property
    def rank(self) -> int:
        """0: an ordinary place, 1: student or teacher, 2: an average or a momentum encoder of a model."""
        parts = [*self.holder.path, *self.lead.split('.')]
        return max((2 if _TWIN.search(part) else 1 if _PAIR.match(part) else 0) for part in parts)

    @property
    def place(self) -> str:
        """The keys and the prefix, for messages and for ``branch``."""
        return '.'.join([*self.holder.path, *self.lead.rstrip('.').split('.')]).strip('.')

    def matches_name(self, name: str) -> bool:
        """Whether ``name`` can refer to it."""
        parts = [*self.holder.path, *self.prefix.split('.')]
        return bool(name) and name.rstrip('.') in (*parts, self.lead.rstrip('.'), self.place, self.prefix.rstrip('.'))


def find_holders(content: Mapping[str, Any]) -> list[Holder]:
    """All mappings in a file that hold tensors, from the top level down, without optimizers and similar entries."""
    found: list[Holder] = []
    level: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [((), content)]
    for _ in range(_DEPTH):
        below: list[tuple[tuple[str, ...], Mapping[str, Any]]] = []
        for path, mapping in level:
            tensors = {k: v for k, v in mapping.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
            if tensors:
                found.append(_holder(path, tensors))
            below += [
                ((*path, key), value)
                for key, value in mapping.items()
                if isinstance(key, str) and isinstance(value, Mapping) and not _NO_WEIGHTS.search(key.lower())
            ]
        level = below
    return found


def _holder(path: tuple[str, ...], tensors: StateDict) -> Holder:
    cleaned = {name: _BETWEEN.sub('', name) for name in tensors}
    if len(set(cleaned.values())) < len(cleaned):  # both forms of one name: not changed
        cleaned = {name: name for name in tensors}
    return Holder(path, {cleaned[n]: v for n, v in tensors.items()}, {new: old for old, new in cleaned.items()})


def find_matches(candidate: Format, holders: Sequence[Holder]) -> list[Match]:
    """Every place with the marks of a format, each with the branch that has the longest matching prefix."""
    hits: dict[tuple[Any, ...], Match] = {}
    for name, branch in candidate.branches.items():
        for holder in holders:
            if branch.wrapper is not None and branch.wrapper not in holder.path:
                continue
            for lead, prefix in _prefixes(candidate.marks, branch, holder.state):
                place = (holder.path, prefix)
                if place not in hits or len(lead) < len(hits[place].lead):
                    hits[place] = Match(name, holder, lead, prefix)
    return list(hits.values())


def _prefixes(marks: Sequence[str], branch: Branch, names: Iterable[str]) -> list[tuple[str, str]]:
    """(lead, whole prefix) behind which all marks are found."""
    names = list(names)
    found: dict[tuple[str, str], None] = {}
    for own in branch.prefixes:
        pattern = re.compile(rf'(?P<prefix>(?P<lead>(?:[^.]+\.)*?){re.escape(own)}(?:module\.)*)(?:{marks[0]})')
        for name in names:
            match = pattern.match(name)
            if match and not any(_OTHER_PART.match(part) for part in match['lead'].split('.')):
                found.setdefault((match['lead'], match['prefix']))
    return [
        (lead, prefix)
        for lead, prefix in found
        if all(any(n.startswith(prefix) and re.match(mark, n[len(prefix) :]) for n in names) for mark in marks)
    ]


def other_matches(hits: Sequence[Match], formats: Iterable[Format], holders: Sequence[Holder]) -> list[Match]:
    """Encoders elsewhere in the file that are not a branch of the format that was found."""
    known = {(hit.holder.path, hit.prefix) for hit in hits}
    found: dict[tuple[Any, ...], Match] = {}
    for candidate in formats:
        for hit in find_matches(candidate, holders):
            place = (hit.holder.path, hit.prefix)
            if place not in known:
                found.setdefault(place, Match('', hit.holder, hit.prefix, hit.prefix))
    return list(found.values())


def choose(
    found: Format, hits: Sequence[Match], others: Sequence[Match], branch: str | None, origin: str
) -> tuple[Match, list[str]]:
    """Choose the encoder that is meant; return it with notes for the user.

    Args:
        found: The format.
        hits: Where it was found; at least one.
        others: Further encoders of this format, see :func:`other_matches`.
        branch: A branch of the format, a key of the file or a prefix of its names; None takes the usual one.
        origin: The file, for messages.

    Raises:
        CheckpointError: If there is no such encoder, or several that may be meant.
    """
    usual = next(iter(found.branches))
    if branch is None:
        wanted = [hit for hit in hits if hit.branch == usual] or list(hits)
    else:
        wanted = [hit for hit in hits if hit.branch == branch]
        wanted = wanted or [hit for hit in (*hits, *others) if hit.matches_name(branch)]
    if not wanted:
        raise CheckpointError(_no_such(found, [*hits, *others], branch or '', origin))
    best = min(hit.rank for hit in wanted)
    group = [hit for hit in wanted if hit.rank == best]
    chosen = group[0] if len(group) == 1 else _by_usual_key(group)
    if chosen is None:
        places = ', '.join(hit.place or 'the top' for hit in group)
        example = next(hit.place for hit in group if hit.place)
        raise CheckpointError(
            f'{origin} (format {found.name}) holds several encoders: {places}; choose one: {BRANCH_OPTION} '
            f'(for example {example})'
        )
    left = [hit.place for hit in (*wanted, *([] if branch else others)) if hit is not chosen]
    notes = _location_notes(chosen, left)
    if branch is None and chosen.branch != usual:
        notes.append(f'{chosen.branch} encoder taken: the file holds no {usual} encoder')
    return chosen, notes


#: how to name an encoder, for messages
BRANCH_OPTION = '--branch NAME of the converters and of tools/test.py, dict(checkpoint=..., branch=NAME) in a graft'


def _location_notes(chosen: Match, left: Sequence[str]) -> list[str]:
    """Notes for the user about the place where the encoder was found."""
    notes = []
    path = '.'.join(chosen.holder.path)
    if path not in ('', 'state_dict', 'model', 'module') and chosen.branch not in chosen.holder.path:
        notes.append(f'tensors taken from {path!r} of the file')
    between = {_between(name) for name in chosen.holder.file_names.values()} - {''}
    lead = '' if chosen.lead == 'module.' else chosen.lead
    removed = [*([lead] if lead else []), *sorted(between)]
    if removed:
        notes.append(f'left out of the names: {", ".join(repr(each) for each in removed)}')
    if left:
        notes.append(f'not taken: {", ".join(repr(each) for each in left)} (another encoder; --branch takes it)')
    return notes


def _between(name: str) -> str:
    match = _BETWEEN.search(name)
    return match[0] if match else ''


def _by_usual_key(group: Sequence[Match]) -> Match | None:
    """Of encoders in different mappings of a file the one under the usual key; None if there is none."""
    order = {key: number for number, key in enumerate(WRAPPERS)}
    if len({hit.lead for hit in group}) > 1 or len({hit.holder.path for hit in group}) < len(group):
        return None
    known = [hit for hit in group if hit.holder.path and hit.holder.path[0] in order]
    return min(known, key=lambda hit: order[hit.holder.path[0]]) if known else None


def _no_such(found: Format, hits: Sequence[Match], branch: str, origin: str) -> str:
    names = list(found.branches) + [hit.place for hit in hits if hit.rank or not hit.branch]
    options = ' or '.join(f'branch="{name}"' for name in dict.fromkeys(names))
    if branch in found.branches:
        return f'{origin} (format {found.name}) holds no tensors of a {branch} encoder; use {options}'
    return f'{origin} (format {found.name}) has no {branch} encoder; use {options}'
