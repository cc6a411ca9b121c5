"""The linear sweep against H separate models with torch's own SGD, and what is reported."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmselfsup_graft.engine.optimizers.lars import LARS
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import CachedBatches, LinearHeads, LinearProtocol, linear_accuracy
from mmselfsup_graft.evaluation.protocols.linear import Batch, batch_shares, train_heads
from mmselfsup_graft.evaluation.protocols.selection import split_holdout

SMALL = {'scales': (0.1, 1.0), 'factors': (1.0, 3.0), 'weight_decays': (0.0, 0.1), 'epochs': 3, 'batch_size': 16}


def blobs(count: int, seed: int, classes: int = 4, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    centers = np.random.default_rng(0).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % classes)
    return (centers[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


class Separate:
    """Every head a module with its own optimizer and torch's scheduler, as in the released code."""

    def __init__(self, heads: LinearHeads, protocol: LinearProtocol, batch_norm: bool) -> None:
        self.models, self.optimizers, self.schedules = [], [], []
        for index, (base, decay) in enumerate(protocol.heads()):
            width, classes = heads.weight.shape[1:]
            linear = nn.Linear(width, classes)
            linear.weight.data, linear.bias.data = heads.weight[index].T.clone(), heads.bias[index, 0].clone()
            norm = nn.BatchNorm1d(width, eps=1e-6, affine=False) if batch_norm else nn.Identity()
            self.models.append(nn.Sequential(norm, linear))
            rate = base * protocol.batch_size / 256
            self.optimizers.append(torch.optim.SGD(linear.parameters(), rate, momentum=0, weight_decay=decay))
            self.schedules.append(torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizers[-1], protocol.epochs))

    def train_epoch(self, batches: list[Batch]) -> None:
        for model, optimizer, schedule in zip(self.models, self.optimizers, self.schedules):
            model.train()
            for batch in batches:
                optimizer.zero_grad()
                F.cross_entropy(model(batch.features), batch.labels).backward()
                optimizer.step()
            schedule.step()


@pytest.mark.parametrize('batch_norm', [False, True])
def test_all_heads_at_once_equal_separate_models(batch_norm):
    train, test = blobs(50, 1), blobs(40, 2)  # 50: the last batch is smaller
    protocol = LinearProtocol(**SMALL, add_batch_norm=batch_norm, seed=5)
    bases, decays = (np.array(each) for each in zip(*protocol.heads()))
    heads = LinearHeads(bases * protocol.rate_factor(), decays, 6, 4, seed=5, batch_norm=batch_norm)
    assert heads.bias.abs().max() == 0
    reference = Separate(heads, protocol, batch_norm)
    start = heads.weight.clone()
    features, labels = torch.from_numpy(test[0]), torch.from_numpy(test[1])
    batches = CachedBatches(train, protocol)
    for epoch in range(protocol.epochs):
        reference.train_epoch(list(batches(epoch)))
        for batch in batches(epoch):
            heads.step(batch.features, batch.labels, batch.total, protocol.cosine(epoch))
        right = heads.correct(features, labels, chunk=7).tolist()
        for index, model in enumerate(reference.models):
            assert torch.allclose(heads.weight[index].T, model[1].weight, rtol=1e-4, atol=1e-6), (epoch, index)
            assert torch.allclose(heads.bias[index, 0], model[1].bias, rtol=1e-4, atol=1e-6), (epoch, index)
            model.eval()
            assert right[index] == int((model(features).argmax(1) == labels).sum())
    assert (heads.weight - start).abs().amax((1, 2)).min() > 1e-4


def test_initial_weights():
    heads = LinearHeads(np.ones(70), np.zeros(70), 64, 10, seed=3)
    assert heads.weight.shape == (70, 64, 10)
    assert heads.weight.std() == pytest.approx(0.01, rel=0.02)
    assert not torch.equal(heads.weight[0], heads.weight[1])
    again, other = (LinearHeads(np.ones(70), np.zeros(70), 64, 10, seed=seed).weight for seed in (3, 4))
    assert torch.equal(heads.weight, again)
    assert not torch.equal(heads.weight, other)


def test_the_order_of_batches_depends_on_seed_and_epoch():
    order = {
        (seed, epoch): [share.tolist() for share, _ in batch_shares(10, 4, seed, epoch)]
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert all(sorted(index for batch in batches for index in batch) == list(range(10)) for batches in order.values())
    assert len({str(batches) for batches in order.values()}) == 4
    assert [len(batch) for batch in order[0, 0]] == [4, 4, 2]
    assert [total for _, total in batch_shares(9, 4, 0, 0)] == [4, 4]  # a single last image is left out
    assert [total for _, total in batch_shares(3, 8, 0, 0)] == [3]


def slow_sweep(train, test, protocol) -> list[np.ndarray]:
    """Accuracies of all heads after every epoch."""
    bases, decays = (np.array(each) for each in zip(*protocol.heads()))
    heads = LinearHeads(bases * protocol.rate_factor(), decays, train[0].shape[1], 4, protocol.seed)
    found = []
    for epoch in range(protocol.epochs):
        for batch in CachedBatches(train, protocol)(epoch):
            heads.step(batch.features, batch.labels, batch.total, protocol.cosine(epoch))
        predicted = heads.logits(torch.from_numpy(test[0])).argmax(2).numpy()
        found.append(100 * (predicted == test[1]).mean(1))
    return found


def test_the_best_epoch_and_the_last_of_equal_heads_are_reported():
    train, test = blobs(48, 1), blobs(40, 2)
    protocol = LinearProtocol(**SMALL, augment=False)
    result = linear_accuracy(train, test, protocol)
    rows = slow_sweep(train, test, protocol)
    best = max(row.max() for row in rows)
    epoch = next(i for i, row in enumerate(rows) if row.max() == best)
    head = max(i for i, value in enumerate(rows[epoch]) if value == best)
    assert result['accuracy'] == pytest.approx(best)
    assert (result['epoch'], result['head']) == (epoch + 1, head)
    assert (result['base_lr'], result['weight_decay']) == protocol.heads()[head]
    assert result['lr'] == pytest.approx(result['base_lr'] * 16 / 256)
    assert result['accuracies'] == pytest.approx(rows[epoch].tolist())
    assert 'evaluation set itself' in result['selection']
    assert result['accuracy'] > 50


def test_ties_go_to_the_last_head():
    """Heads that do not learn stay as good as they were: with rate 0 and the same start all accuracies are fixed."""
    train, test = blobs(16, 1), (np.zeros((8, 6), np.float32), np.zeros(8, int))  # zero features: only the bias counts
    protocol = LinearProtocol((0.0,), (1.0, 2.0), (0.0, 0.0), epochs=3, batch_size=8)
    best = train_heads(CachedBatches(train, protocol), test, 4, protocol)
    assert best.accuracies.tolist() == [100.0] * 4
    assert (best.head, best.epoch) == (3, 0)


def test_selection_on_a_held_out_part():
    train, test = blobs(80, 1), blobs(60, 2)
    protocol = LinearProtocol(**SMALL, augment=False, selection='holdout', holdout_share=0.25, seed=2)
    result = linear_accuracy(train, test, protocol)
    kept, held = split_holdout(train[1], 0.25, 2)
    inner = ((train[0][kept], train[1][kept]), (train[0][held], train[1][held]))
    chosen = slow_sweep(*inner, protocol)
    best = max(row.max() for row in chosen)
    assert result['holdout_accuracy'] == pytest.approx(best)
    assert chosen[result['epoch'] - 1][result['head']] == pytest.approx(best)
    on_test = slow_sweep(inner[0], test, protocol)[result['epoch'] - 1][result['head']]
    assert result['accuracy'] == pytest.approx(on_test)
    assert 'held-out part' in result['selection']


def test_official_rates_are_larger_by_the_stated_number_of_processes():
    train, test = blobs(48, 1), blobs(40, 2)
    official = LinearProtocol(**SMALL, augment=False, lr_factor='official', official_world_size=4)
    same = LinearProtocol(**{**SMALL, 'scales': (0.4, 4.0)}, augment=False)
    first, second = (linear_accuracy(train, test, each) for each in (official, same))
    assert first['accuracies'] == second['accuracies']
    assert first['lr'] == pytest.approx(second['lr'])
    assert (first['rate_factor'], second['rate_factor']) == (0.25, 0.0625)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        ({'scales': 0.1}, 'scales must be a list'),
        ({'factors': ()}, 'factors must be a list'),
        ({'epochs': 0}, 'at least 1'),
        ({'lr_factor': 'offical'}, "lr_factor is 'offical'"),
        (dict(momentum=1.0), r'momentum is 1\.0; it must be in'),
        (dict(momentum='a'), r"momentum is 'a'; it must be in"),
        (dict(momentum=float('nan')), 'momentum is nan'),
        (dict(milestones=60), 'milestones is 60; they must be a list'),
        (dict(milestones=[5, 90]), 'before the end, 90'),
        (dict(milestones=[0, 5]), r'milestones is \[0, 5\]; they must be a list of epochs from 1 on'),
    ],
)
def test_impossible_settings_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        LinearProtocol(**options)


PROBE = {'scales': (1.0,), 'factors': (0.5,), 'weight_decays': (0.1,), 'epochs': 4, 'batch_size': 16}


def slow_lars(values: list[np.ndarray], grads: list[np.ndarray], means: list[np.ndarray], rate: float) -> None:
    """One step for the weight and the bias of a head, as in MAE's linear probe, in place."""
    for value, grad, mean in zip(values, grads, means):
        change = grad
        if value.ndim > 1:
            change = grad + 0.1 * value
            sizes = np.sqrt((value**2).sum()), np.sqrt((change**2).sum())
            change = change * (1e-3 * sizes[0] / sizes[1] if min(sizes) > 0 else 1.0)
        mean[...] = 0.9 * mean + change
        value -= rate * mean


def test_lars_with_warm_up_and_batch_norm_equals_a_slow_form() -> None:
    """The rate moves in every step, a batch that is not full is left out, statistics are those of the batch."""
    train = blobs(60, 1)
    options = dict(optimizer='lars', momentum=0.9, warmup_epochs=1.5, per_iteration=True, drop_last=True)
    protocol = LinearProtocol(**PROBE, **options, add_batch_norm=True, seed=5)
    best = train_heads(CachedBatches(train, protocol), blobs(400, 2), 4, protocol)
    start = LinearHeads(np.ones(1), np.zeros(1), 6, 4, seed=5)
    values = [start.weight[0].numpy().astype(float), np.zeros(4)]
    means, scores, mean, variance = [np.zeros_like(value) for value in values], [], np.zeros(6), np.ones(6)
    for epoch in range(4):
        order = np.random.default_rng((5, epoch)).permutation(60)
        for number in range(3):  # 48 of 60 images
            rows = order[16 * number : 16 * (number + 1)]
            x, labels = train[0][rows].astype(float), train[1][rows]
            normed = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6)
            mean, variance = 0.9 * mean + 0.1 * x.mean(0), 0.9 * variance + 0.1 * x.var(0, ddof=1)
            logits = normed @ values[0] + values[1]
            error = np.exp(logits - logits.max(1, keepdims=True))
            error = error / error.sum(1, keepdims=True) - np.eye(4)[labels]
            at = epoch + number / 3
            factor = at / 1.5 if at < 1.5 else 0.5 * (1 + np.cos(np.pi * (at - 1.5) / 2.5))
            slow_lars(values, [normed.T @ error / 16, error.mean(0)], means, 0.5 * 16 / 256 * factor)
        test, truth = blobs(400, 2)
        predicted = (((test - mean) / np.sqrt(variance + 1e-6)) @ values[0] + values[1]).argmax(1)
        scores.append(100 * (predicted == truth).mean())
    assert best.epoch == int(np.argmax(scores))
    assert best.accuracy == pytest.approx(max(scores), abs=0.5)
    short = LinearProtocol(**{**PROBE, 'epochs': 2}, **options, add_batch_norm=True, seed=5)
    assert short.cosine(0.75) == 0.5
    assert short.cosine(2) == pytest.approx(0.0, abs=1e-12)


def test_lars_equals_separate_optimizers() -> None:
    """Several heads at once, against the toolbox's optimizer for pre-training, one instance per head."""
    train = blobs(48, 1)
    protocol = LinearProtocol(**SMALL, optimizer='lars', momentum=0.9, seed=5)
    bases, decays = (np.array(each) for each in zip(*protocol.heads()))
    heads = LinearHeads(bases, decays, 6, 4, seed=5, momentum=0.9, trust=1e-3)
    linears, optimizers = [], []
    for index, (base, decay) in enumerate(protocol.heads()):
        linear = nn.Linear(6, 4)
        linear.weight.data, linear.bias.data = heads.weight[index].T.clone(), heads.bias[index, 0].clone()
        linears.append(linear)
        optimizers.append(LARS(linear.parameters(), base, weight_decay=decay, momentum=0.9))
    for epoch in range(3):
        for batch in CachedBatches(train, protocol)(epoch):
            heads.step(batch.features, batch.labels, batch.total, 1.0)
            for linear, optimizer in zip(linears, optimizers):
                optimizer.zero_grad()
                F.cross_entropy(linear(batch.features), batch.labels).backward()
                optimizer.step()
    for index, linear in enumerate(linears):
        torch.testing.assert_close(heads.weight[index].T, linear.weight.detach(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(heads.bias[index, 0], linear.bias.detach(), rtol=1e-4, atol=1e-6)


def test_batches_that_are_not_full() -> None:
    assert [total for _, total in batch_shares(10, 4, 0, 0, drop_last=True)] == [4, 4]
    assert [total for _, total in batch_shares(3, 8, 0, 0, drop_last=True)] == [3]


WRONG = {
    'optimizer': ({'optimizer': 'adam'}, "choose 'sgd' or 'lars'"),
    'momentum': ({'momentum': 1.0}, r'momentum is 1.0; it must be in \[0, 1\)'),
    'warm-up': ({'warmup_epochs': 4, 'per_iteration': True}, 'at least 0 and less than epochs, 4'),
    'by epoch': ({'warmup_epochs': 1}, 'needs per_iteration=True'),
}


@pytest.mark.parametrize(('options', 'says'), WRONG.values(), ids=WRONG)
def test_values_outside_their_range(options: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LinearProtocol(**PROBE, **options)
