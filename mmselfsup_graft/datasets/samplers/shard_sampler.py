"""The sampler for data in shards: an order that reads neighboring samples together, exact over ranks, resumable."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from mmselfsup_graft.datasets.seeding import sample_seed
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATA_SAMPLERS

from .seeded import SeededSampler


@DATA_SAMPLERS.register_module()
class ShardSampler(SeededSampler):
    """Shards in a random order, their samples mixed within a window of several shards.

    The order of an epoch is a function of (seed, epoch) and of the dataset alone:

    1. The S shards are permuted and cut, in that order, into ``ceil(S / window)`` windows of (nearly) equally many.
    2. Every shard is cut into runs of ``run`` neighbors; the first cut differs between epochs, so that a sample
       has other neighbors.
    3. The runs of a window are permuted. The order is the windows one after the other.

    Over ranks: rank r of W gets the r-th of W equally long pieces of the order. So every sample occurs exactly once per
    epoch (but for those that ``round_up`` repeats), a rank touches about S / W shards, of which it holds at most a
    window (where two meet inside its piece: one after the other) at a time, and the joined batch of all ranks mixes W
    windows. :class:`SeededSampler` takes every W-th sample instead, so every rank would read every shard.

    Over workers: torch's ``DataLoader`` hands batches to them in turn. A batch is a piece of the order, so it consists
    of whole runs but for those cut at its ends, and the worker that gets it reads each run at once, whatever the number
    of workers: :class:`TarShards` makes one request of it. All workers of a rank work on the same window, so
    a cache of shards must hold ``window`` of them per rank and some more.

    A larger ``run`` means fewer and larger reads, but puts neighbors into the same batch. That is harmless where
    the archives were written in a random order, as ``make_shards.py`` does; for archives that are sorted by class take
    ``run=1`` and a large ``window``.

    Args:
        dataset: A dataset with a method ``shards``, such as :class:`TarShards` and :class:`RawShards`.
        shuffle: Permute, differently in each epoch; without, the order is that of the shards.
        seed: See :class:`SeededSampler`.
        round_up: Repeat samples from the beginning of the order so that all ranks get equally many.
        window: Shards whose samples are mixed.
        run: Neighbors in a shard that stay together.

    Raises:
        ConfigError: The dataset has no shards, or ``window`` or ``run`` is not a whole number of at least 1.
    """

    def __init__(
        self,
        dataset: Any,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
        window: int = 16,
        run: int = 8,
    ) -> None:
        for name, value in (('window', window), ('run', run)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f'ShardSampler: {name} must be a whole number of at least 1, got {value!r}')
        if not hasattr(dataset, 'shards'):
            raise ConfigError(
                f'ShardSampler: {type(dataset).__name__} has no shards; use TarShards or RawShards, or SeededSampler'
            )
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self.window, self.run = window, run
        shards = np.asarray(dataset.shards())
        self._by_shard = np.argsort(shards, kind='stable')  # all samples, shard after shard
        self._sizes = np.unique(shards, return_counts=True)[1]

    def order(self) -> np.ndarray:
        """Return the samples in the order of this epoch, the same on all ranks, int64 of shape (N,)."""
        if not self.shuffle:
            return self._by_shard
        generator = torch.Generator().manual_seed(sample_seed(self.seed, self.epoch, 0) >> 1)
        phase = int(torch.randint(self.run, (1,), generator=generator))
        count = len(self._sizes)
        place = torch.randperm(count, generator=generator).numpy()  # of every shard in the permuted order
        window = place * -(-count // self.window) // count

        runs = (self._sizes + phase - 1) // self.run + 1  # of every shard, [S]
        first = np.cumsum(runs) - runs
        start = np.repeat(np.cumsum(self._sizes) - self._sizes, self._sizes)
        within = np.arange(len(self._by_shard)) - start  # place of every sample in its shard, [N]
        run_of = np.repeat(first, self._sizes) + (within + phase) // self.run
        mixed = torch.randperm(int(runs.sum()), generator=generator).numpy()
        key = np.repeat(window, self._sizes) * len(mixed) + mixed[run_of]
        return self._by_shard[np.argsort(key, kind='stable')]

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indices of this rank."""
        skipped, self._skip = self._skip, 0
        size = len(self.dataset)
        share, more = divmod(size, self.world_size)
        begin = self.rank * len(self) if self.round_up else self.rank * share + min(self.rank, more)
        places = np.arange(begin + skipped, begin + len(self)) % size
        return iter(self.order()[places].tolist())
