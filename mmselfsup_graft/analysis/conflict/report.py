"""Gradient conflict of a trained multi-task model, from its config and checkpoint to a figure and a proposal."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.whole_model import load_model
from mmselfsup_graft.utils.files import write_text

from .measure import ConflictProfile, measure_conflict
from .proposal import GraftProposal, propose_graft


def profile_of_checkpoint(cfg: Config, checkpoint: Path, batches: int, seed: int = 0) -> ConflictProfile:
    """Measure the conflict on batches of the config's training data, in train mode, without training.

    Args:
        cfg: Config of a :class:`MultiTask` run.
        checkpoint: A checkpoint of that run.
        batches: Number of batches; more than an epoch has go into the next epoch.
        seed: Of the order of the samples, their augmentation and the masks.

    Raises:
        ConfigError: If the model does not have several objectives.
        CheckpointError: If the checkpoint does not fit the model.
    """
    if cfg.model.type.rpartition('.')[2] != 'MultiTask':
        raise ConfigError(
            f'{cfg.model.type} has one objective; the conflict is measured on a MultiTask model (configs/multi_task/)'
        )
    model: Any = load_model(cfg, checkpoint)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = model.to(device).train()
    profile, started = ConflictProfile(), time.time()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for number, batch in enumerate(_batches(cfg, batches, seed)):
            inputs = model.data_preprocessor(batch, True)['inputs']
            profile.rows += measure_conflict(model, inputs, number)
            left = (time.time() - started) / (number + 1) * (batches - number - 1)
            print(f'\rbatch {number + 1}/{batches}, {left:.0f} s left ', end='', flush=True)
    print()
    return profile


def _batches(cfg: Config, count: int, seed: int) -> Iterator[Any]:
    from mmselfsup_graft.engine import GraftRunner

    loader = GraftRunner.build_dataloader(cfg.train_dataloader, seed=seed)
    if len(loader) == 0:
        raise DataError(f'the training data is smaller than one batch of {loader.batch_size}; lower the batch size')
    epoch = 0
    while count > 0:
        loader.sampler.set_epoch(epoch)
        for _, batch in zip(range(count), loader):
            yield batch
            count -= 1
        epoch += 1


def report_conflict(
    profile: ConflictProfile, out_dir: Path, base_lr: float = 1.0, low_factor: float = 0.1, lower: str = 'mim'
) -> str:
    """Write ``gradient_conflict.csv``, and per pair of objectives a figure and a proposal; returns the text.

    Args:
        profile: Measurements.
        out_dir: Folder to write into.
        base_lr: Learning rate above the proposed cut.
        low_factor: Share of it below the cut.
        lower: Objective that keeps the lower layers; the cosine is symmetric and does not show which.
    """
    from .plot import draw_conflict

    out_dir.mkdir(parents=True, exist_ok=True)
    profile.write_csv(out_dir / 'gradient_conflict.csv')
    texts = []
    for pair in profile.pairs():
        proposal = propose_graft(profile.over_blocks(pair), base_lr, low_factor)
        cosines = {group: profile.cosines(pair, group) for group in profile.groups()}
        above = None if proposal.graft_at is None else f'blocks.{proposal.graft_at}'
        target = out_dir / f'gradient_conflict_{pair[0]}_{pair[1]}.png'
        draw_conflict(cosines, target, f'gradients of {pair[0]} and {pair[1]}', above)
        parts = [f'{pair[0]} and {pair[1]}', profile_table(profile, pair), *_proposal_lines(proposal, pair, lower)]
        texts.append('\n'.join(parts))
    text = '\n\n'.join(texts)
    write_text(out_dir / 'gradient_conflict.txt', f'{text}\n')
    return text


def _proposal_lines(proposal: GraftProposal, pair: tuple[str, str], lower: str) -> list[str]:
    """The proposal in the form of a config, and its reason."""
    if proposal.graft_at is None:
        return [f'reason: {proposal.reason}']
    below = lower if lower in pair else 'the objective that is trained first'
    rates = ', '.join(f'{rate:g}' for rate in proposal.lr_layer_wise or ())
    return [
        f'proposal: cut before block {proposal.graft_at}. Start from the whole encoder of {below} (which objective '
        'comes first is not measured: the cosine is symmetric), in the config of the other:',
        "    model = dict(graft=[dict(checkpoint='...')])",
        f'    optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, lr_layer_wise=[{rates}]))',
        f'frozen instead: model.frozen_layers={proposal.graft_at}; upper part fresh: layers=(0, {proposal.graft_at})',
        f'reason: {proposal.reason}',
    ]


def profile_table(profile: ConflictProfile, pair: tuple[str, str]) -> str:
    """Mean, spread and share of negative cosines per group, as text."""
    lines = [f'{"group":>10}  {"mean":>7}  {"spread":>7}  {"negative":>8}']
    for group in profile.groups():
        values = profile.cosines(pair, group)
        values = values[~np.isnan(values)]
        if len(values):
            share = 100 * (values < 0).mean()
            lines.append(f'{group:>10}  {values.mean():>+7.3f}  {values.std():>7.3f}  {share:>6.0f} %')
    return '\n'.join(lines)
