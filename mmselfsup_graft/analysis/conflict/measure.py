"""Conflict of two objectives over depth: the cosine of their gradients, layer by layer.

``C = <g_a, g_b> / (|g_a| |g_b|)`` per group of encoder parameters, g being the gradient of one loss alone, flattened
and concatenated (Layer Grafted Pre-training, arXiv 2302.14138). The gradients are computed from the losses directly, so
they contain no loss scale. Groups are ``embed``, ``blocks.0`` ..., ``norm`` and ``all``.
"""

import csv
import io
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import nn

from mmselfsup_graft.checkpoints import depth_of
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.utils.files import open_regular, write_text

_COLUMNS = ('iteration', 'first', 'second', 'group', 'cosine', 'norm_first', 'norm_second')


@dataclass(frozen=True)
class ConflictRow:
    """Cosine of the gradients of two objectives for one batch and one group of parameters.

    Attributes:
        iteration: Iteration (or number of the batch) of the measurement.
        first, second: Names of the objectives.
        group: ``embed``, ``blocks.i``, ``norm`` or ``all``.
        cosine: In [-1, 1]; NaN where one of the gradients is zero.
        norm_first, norm_second: L2 norms of the two gradients.
    """

    iteration: int
    first: str
    second: str
    group: str
    cosine: float
    norm_first: float
    norm_second: float


@dataclass
class ConflictProfile:
    """Measurements over batches, as in a CSV file."""

    rows: list[ConflictRow] = field(default_factory=list)

    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of objectives, in the order they were measured."""
        return list(dict.fromkeys((row.first, row.second) for row in self.rows))

    def groups(self) -> list[str]:
        """Names of the groups, from the lowest to the highest, ``all`` last."""
        return list(dict.fromkeys(row.group for row in self.rows))

    def cosines(self, pair: tuple[str, str], group: str) -> np.ndarray:
        """Cosines [T] of one group over the batches, in the order they were measured."""
        return np.array([row.cosine for row in self.rows if (row.first, row.second) == pair and row.group == group])

    def over_blocks(self, pair: tuple[str, str]) -> np.ndarray:
        """Cosines [T, num_blocks] of the blocks of the encoder; NaN where a block was frozen.

        Raises:
            DataError: If no block was measured.
        """
        numbers = [int(group.removeprefix('blocks.')) for group in self.groups() if group.startswith('blocks.')]
        if not numbers:
            raise DataError('the profile holds no block of an encoder')
        cosines = np.full((len(self.cosines(pair, f'blocks.{numbers[0]}')), max(numbers) + 1), np.nan)
        for number in numbers:
            cosines[:, number] = self.cosines(pair, f'blocks.{number}')
        return cosines

    def write_csv(self, path: str | os.PathLike) -> None:
        """Write all rows with a header, atomically."""
        text = io.StringIO(newline='')
        writer = csv.writer(text)
        writer.writerow(_COLUMNS)
        writer.writerows([getattr(row, column) for column in _COLUMNS] for row in self.rows)
        write_text(path, text.getvalue())

    @classmethod
    def read_csv(cls, path: str | os.PathLike) -> 'ConflictProfile':
        """Read a file of :meth:`write_csv`.

        Raises:
            DataError: If the file is missing or of another form.
        """
        try:
            with io.TextIOWrapper(open_regular(path), encoding='utf-8', newline='') as file:
                reader = csv.DictReader(file)
                lines = list(reader)
            if tuple(reader.fieldnames or ()) != _COLUMNS:
                raise ValueError(f'its columns are {reader.fieldnames}')
            types = (int, str, str, str, float, float, float)
            return cls([ConflictRow(*(kind(line[c]) for kind, c in zip(types, _COLUMNS))) for line in lines])
        except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
            raise DataError(
                f'{path} is not a conflict profile ({type(error).__name__}: {error}); expected a CSV with the columns '
                f'{", ".join(_COLUMNS)}'
            ) from error


def layer_groups(backbone: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters of an encoder by layer, from ``embed`` to ``norm``, and ``all``; empty groups left out.

    Parameters of one objective only (a mask token) are in no group: there is no second gradient to compare with.
    """
    depth, own = depth_of(backbone), tuple(getattr(backbone, 'graft_optional', ()))
    names = ['embed', *(f'blocks.{i}' for i in range(depth.num_blocks)), 'norm']
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in [*names, 'all']}
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad and not name.startswith(own):
            groups[names[depth.layer_id(name)]].append(parameter)
            groups['all'].append(parameter)
    return {name: parameters for name, parameters in groups.items() if parameters}


def conflict_of_losses(
    losses: Mapping[str, torch.Tensor], groups: Mapping[str, Sequence[nn.Parameter]], iteration: int = 0
) -> list[ConflictRow]:
    """Cosines of the gradients of every pair of losses.

    Over ranks: gradients are averaged as DDP would before they are compared.

    Args:
        losses: Name -> scalar loss with its graph. The graph is kept until the last one is done.
        groups: Name -> parameters; a parameter may be in several groups.
        iteration: Iteration to record.
    """
    parameters = list(dict.fromkeys(p for group in groups.values() for p in group))
    gradients = {}
    for name, loss in losses.items():
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        gradients[name] = {p: torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found)}
        for gradient in gradients[name].values():
            all_reduce(gradient, 'mean')
    rows = []
    for first, second in itertools.combinations(losses, 2):
        for group, members in groups.items():
            a, b = (torch.cat([gradients[n][p].flatten() for p in members]) for n in (first, second))
            norms = a.norm(), b.norm()
            cosine = (a @ b) / (norms[0] * norms[1])  # 0 / 0 is NaN: no direction to compare
            rows.append(ConflictRow(iteration, first, second, group, *(float(v) for v in (cosine, *norms))))
    return rows


def measure_conflict(model: Any, inputs: Sequence[torch.Tensor], iteration: int = 0) -> list[ConflictRow]:
    """Conflict of the objectives of a :class:`MultiTask` model on one batch; the model is not changed.

    The model works in its present mode, in full precision; batch-norm statistics are put back, momentum encoders are
    not updated. The caller handles the random state.

    Args:
        model: Unwrapped model with ``objective_losses``.
        inputs: Normalized views, each [B, C, H, W].
        iteration: Iteration to record.

    Raises:
        ConfigError: If the model does not have several objectives.
    """
    if not hasattr(model, 'objective_losses'):
        raise ConfigError(
            f'the conflict of gradients needs a model with several objectives (MultiTask), got {type(model).__name__}'
        )
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    followers = [(part, part.update_due) for part in model.modules() if hasattr(part, 'update_due')]
    try:
        for part, _ in followers:
            part.update_due = False
        with torch.enable_grad(), torch.autocast(inputs[0].device.type, enabled=False):
            return conflict_of_losses(model.objective_losses(inputs), layer_groups(model.backbone), iteration)
    finally:
        for part, due in followers:
            part.update_due = due
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
