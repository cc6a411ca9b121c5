"""Linear evaluation: a sweep of heads on frozen features, trained together."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank, get_world_size

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation.per_class import MOST_CLASSES, confusion_matrix
from mmselfsup_graft.utils.progress import Progress

from .linear_heads import LinearHeads
from .logistic import FeatureSet
from .selection import SELECTIONS, check_selection, split_holdout

_SCORED_AT_A_TIME = 1024
_TRUST = 1e-3  # of LARS


@dataclass(frozen=True)
class LinearProtocol:
    """The sweep of MoCo v3's and Layer Grafted Pre-training's linear evaluation (arXiv 2302.14138): 70 heads.

    Heads are ordered by scale, then factor, then weight decay; the base learning rate is ``scale * factor`` per 256
    images. SGD without momentum, cosine from epoch to epoch down to 0. After each epoch all heads are scored; of equal
    heads the last counts, of equal epochs the first. With one head, LARS, momentum, a warm-up and batch norm it is
    MAE's linear probe (arXiv 2111.06377); with one head, momentum and ``milestones`` MoCo's.

    Attributes:
        scales: Outer loop of base learning rates.
        factors: Middle loop.
        weight_decays: Inner loop.
        epochs: Length.
        batch_size: Images per step, over all processes.
        add_batch_norm: Batch norm without affine part (eps 1e-6) before the heads.
        optimizer: ``sgd``, or ``lars`` with a trust coefficient of 0.001.
        momentum: Momentum of the optimizer.
        warmup_epochs: Linear warm-up from 0, before the cosine.
        per_iteration: Whether the schedule moves in every step, not from epoch to epoch.
        drop_last: Leave out a last batch that is not full, unless it is the only one.
        lr_factor: ``corrected``: rates times batch / 256; ``official``: also times the number of processes, as in
            the released code, whose batch was already the total.
        official_world_size: That number; the release ran on 8 GPUs.
        augment: True: the encoder processes ``evaluation.augmented`` in every epoch; False: features of
            ``evaluation.train``, extracted once.
        selection: Data for the choice of epoch and head: ``test`` (the paper's) or ``holdout``.
        holdout_share: Part of every class that is held out of training.
        seed: Of initial weights, order, augmentation and held-out part.
        milestones: Epochs, counted from 0, from which on the rates are a tenth of those before; none: the cosine.

    Raises:
        ConfigError: If a value is outside its range.
    """

    scales: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    factors: tuple[float, ...] = (1.0, 3.0, 5.0, 7.0, 9.0)
    weight_decays: tuple[float, ...] = (0.0, 1e-6)
    epochs: int = 90
    batch_size: int = 4096
    add_batch_norm: bool = False
    optimizer: str = 'sgd'
    momentum: float = 0.0
    warmup_epochs: float = 0.0
    per_iteration: bool = False
    drop_last: bool = False
    lr_factor: str = 'corrected'
    official_world_size: int = 8
    augment: bool = True
    selection: str = 'test'
    holdout_share: float = 0.1
    seed: int = 0
    milestones: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ('scales', 'factors', 'weight_decays'):
            if not isinstance(getattr(self, name), list | tuple) or not getattr(self, name):
                raise ConfigError(f'evaluation.linear.{name} must be a list of numbers, got {getattr(self, name)!r}')
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError('evaluation.linear: epochs and batch_size must be at least 1')
        if self.lr_factor not in ('corrected', 'official'):
            raise ConfigError(f"evaluation.linear.lr_factor is {self.lr_factor!r}; choose 'corrected' or 'official'")
        if self.optimizer not in ('sgd', 'lars'):
            raise ConfigError(f"evaluation.linear.optimizer is {self.optimizer!r}; choose 'sgd' or 'lars'")
        if type(self.momentum) not in (int, float) or not 0.0 <= self.momentum < 1.0:
            raise ConfigError(f'evaluation.linear.momentum is {self.momentum!r}; it must be in [0, 1)')
        milestones = self.milestones if isinstance(self.milestones, list | tuple) else (None,)
        if any(type(each) is not int or not 1 <= each < self.epochs for each in milestones):
            raise ConfigError(
                f'evaluation.linear.milestones is {self.milestones!r}; they must be a list of epochs from 1 on and '
                f'before the end, {self.epochs}'
            )
        if self.milestones and (self.warmup_epochs or self.per_iteration):
            raise ConfigError('evaluation.linear.milestones take neither warmup_epochs nor per_iteration')
        if not 0.0 <= self.warmup_epochs < self.epochs:
            raise ConfigError(
                f'evaluation.linear.warmup_epochs is {self.warmup_epochs}; it must be at least 0 and less than epochs, '
                f'{self.epochs}'
            )
        if self.warmup_epochs and not self.per_iteration:
            raise ConfigError(
                'evaluation.linear.warmup_epochs needs per_iteration=True: epoch 0 would have a rate of 0'
            )
        check_selection('linear', self.selection, self.holdout_share, ('test', 'holdout'))

    def heads(self) -> list[tuple[float, float]]:
        """(base learning rate, weight decay) of every head, in the official order."""
        return [(s * f, d) for s in self.scales for f in self.factors for d in self.weight_decays]

    def rate_factor(self) -> float:
        """Factor of the base learning rates."""
        return self.batch_size / 256 * (self.official_world_size if self.lr_factor == 'official' else 1)

    def schedule(self, epoch: float) -> float:
        """Factor of the learning rates in an epoch, counted from 0; a fraction is the share of it that is done."""
        if self.milestones:
            return float(0.1 ** sum(epoch >= each for each in self.milestones))
        return self.cosine(epoch)

    def cosine(self, epoch: float) -> float:
        """Factor of the schedule without milestones."""
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        return 0.5 * (1.0 + math.cos(math.pi * (epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs)))


class Batch(NamedTuple):
    """Share of a batch for one process.

    Attributes:
        features: [B, D].
        labels: [B].
        total: Images of the joined batch.
        done: Share of the epoch before this batch.
    """

    features: torch.Tensor
    labels: torch.Tensor
    total: int
    done: float = 0.0


Batches = Callable[[int], Iterable[Batch]]


def batch_shares(
    count: int, batch_size: int, seed: int, epoch: int, drop_last: bool = False
) -> list[tuple[np.ndarray, int]]:
    """Indices of this process's share of every batch of an epoch, and the size of the joined batch.

    The order depends on (seed, epoch); rank r takes every W-th sample from the r-th on. A last batch that has no sample
    for every process, or a single one, is left out: batch norm could not use it. With ``drop_last`` every last batch
    that is not full is left out, unless it is the only one.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    world = get_world_size()
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    least = batch_size if drop_last else max(2, world)
    kept = [batch for number, batch in enumerate(batches) if number == 0 or len(batch) >= least]
    return [(batch[get_rank() :: world], len(batch)) for batch in kept]


class CachedBatches:
    """Batches of features that were extracted once.

    Args:
        train: Features [N, D] and labels [N].
        protocol: Defines batch size and seed.
        device: Device of the features.
    """

    def __init__(self, train: FeatureSet, protocol: LinearProtocol, device: torch.device | str = 'cpu') -> None:
        self.features, self.labels = _on_device(train, device)
        self.protocol = protocol

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Yield the shares of an epoch."""
        order = (self.protocol.batch_size, self.protocol.seed, epoch, self.protocol.drop_last)
        shares = batch_shares(len(self.labels), *order)
        for number, (index, total) in enumerate(shares):
            rows = torch.from_numpy(index).to(self.labels.device)
            yield Batch(self.features[rows], self.labels[rows], total, number / len(shares))


def _on_device(data: FeatureSet, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(data[0]).float().to(device), torch.from_numpy(data[1]).to(device)


class _Scorer:
    """Accuracy of every head on a set of features; each process scores its share."""

    def __init__(self, data: FeatureSet, device: torch.device | str) -> None:
        share = slice(get_rank(), None, get_world_size())
        self.features, self.labels = _on_device((data[0][share], data[1][share]), device)
        self.count = len(data[1])

    def __call__(self, heads: LinearHeads) -> np.ndarray:
        right = heads.correct(self.features, self.labels, _SCORED_AT_A_TIME)
        all_reduce(right)
        return 100.0 * right.cpu().numpy() / self.count

    def confusion(self, head: LinearHeads, classes: int) -> np.ndarray:
        """Confusion matrix [C, C] of one head, over all processes."""
        predicted = head.predicted(self.features, _SCORED_AT_A_TIME).cpu().numpy()
        matrix = torch.from_numpy(confusion_matrix(self.labels.cpu().numpy(), predicted, classes))
        matrix = matrix.to(self.features.device)
        all_reduce(matrix)
        return matrix.cpu().numpy()


class Best(NamedTuple):
    """The best head on the selection set, see :func:`train_heads`."""

    accuracy: float
    epoch: int
    head: int
    accuracies: np.ndarray
    trained: LinearHeads


def train_heads(
    batches: Batches, scored: FeatureSet, classes: int, protocol: LinearProtocol, device: torch.device | str = 'cpu'
) -> Best:
    """Train all heads and keep the best one of all epochs on the selection set.

    Args:
        batches: Gives the shares of the batches of an epoch.
        scored: Features [M, D] and labels [M] to select on.
        classes: Number of classes.
        protocol: See :class:`LinearProtocol`.
        device: Device of the heads.

    Returns:
        Its accuracy (per cent), epoch and number, the accuracies of all heads after that epoch, and a copy of it.
    """
    bases, decays = (np.array(column) for column in zip(*protocol.heads()))
    rates, width = bases * protocol.rate_factor(), scored[0].shape[1]
    trust = _TRUST if protocol.optimizer == 'lars' else None
    settings = (protocol.seed, protocol.add_batch_norm, device, protocol.momentum, trust)
    heads = LinearHeads(rates, decays, width, classes, *settings)
    score, progress = _Scorer(scored, device), Progress('linear evaluation', protocol.epochs)
    best: Best | None = None
    for epoch in range(protocol.epochs):
        for batch in batches(epoch):
            at = epoch + (batch.done if protocol.per_iteration else 0.0)
            heads.step(batch.features, batch.labels, batch.total, protocol.schedule(at))
        accuracies = score(heads)
        index = len(accuracies) - 1 - int(accuracies[::-1].argmax())  # of equal heads the last
        if best is None or accuracies[index] > best.accuracy:
            best = Best(float(accuracies[index]), epoch, index, accuracies, heads.head(index))
        progress.step(note=f', best so far {best.accuracy:.2f} %')
    if best is None:  # excluded by the protocol
        raise ConfigError('evaluation.linear.epochs must be at least 1')
    return best


class LinearResult(NamedTuple):
    """Scores of the best head, and its confusion matrix [C, C] on the test data; None for very many classes."""

    scores: dict[str, Any]
    confusion: np.ndarray | None


def linear_accuracy(
    train: FeatureSet,
    test: FeatureSet,
    protocol: LinearProtocol,
    batches: Callable[[np.ndarray], Batches] | None = None,
    device: torch.device | str = 'cpu',
) -> dict[str, Any]:
    """Train the sweep and report the best head: the scores of :func:`linear_result`."""
    return linear_result(train, test, protocol, batches, device).scores


def linear_result(
    train: FeatureSet,
    test: FeatureSet,
    protocol: LinearProtocol,
    batches: Callable[[np.ndarray], Batches] | None = None,
    device: torch.device | str = 'cpu',
) -> LinearResult:
    """Train the sweep; returns the scores and the confusion matrix of the best head.

    Args:
        train: Features [N, D] and labels [N] without augmentation: trained on, or a part of them held out.
        test: Features [M, D] and labels [M].
        protocol: See :class:`LinearProtocol`.
        batches: Makes the source of augmented batches from the indices of the training images; None trains on
            ``train`` itself.
        device: Device of the heads.

    Returns:
        As ``scores``: ``accuracy`` (per cent), the head's ``base_lr``, ``lr`` and ``weight_decay``, its number
        ``head`` and ``epoch``
        (from 1), ``accuracies`` of all heads after that epoch on the set that selected, ``selection`` as text and
        ``rate_factor``; with a held-out part also ``holdout_accuracy``.
    """
    classes = 1 + int(max(train[1].max(), test[1].max()))
    holdout = protocol.selection == 'holdout'
    kept, scored = np.arange(len(train[1])), test
    if holdout:
        kept, held = split_holdout(train[1], protocol.holdout_share, protocol.seed)
        scored = (train[0][held], train[1][held])
    source = batches(kept) if batches else CachedBatches((train[0][kept], train[1][kept]), protocol, device)
    best = train_heads(source, scored, classes, protocol, device)
    base, decay = protocol.heads()[best.head]
    scorer = _Scorer(test, device)
    result = {
        'accuracy': float(scorer(best.trained)[0]) if holdout else best.accuracy,
        'base_lr': base,
        'lr': base * protocol.rate_factor(),
        'weight_decay': decay,
        'head': best.head,
        'epoch': best.epoch + 1,
        'selection': SELECTIONS[protocol.selection],
        'rate_factor': protocol.rate_factor(),
        'accuracies': best.accuracies.tolist(),
    }
    if holdout:
        result['holdout_accuracy'] = best.accuracy
    return LinearResult(result, scorer.confusion(best.trained, classes) if classes <= MOST_CLASSES else None)
