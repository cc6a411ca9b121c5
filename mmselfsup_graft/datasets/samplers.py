"""The sampler of pre-training: seeded, rank-strided, resumable in the middle of an epoch."""

from collections.abc import Iterator, Sized
from itertools import islice

from mmengine.dataset import DefaultSampler

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` that tells the dataset seed and epoch and can start within an epoch.

    Over ranks: the permutation is the same on all, rank r takes every W-th sample from the r-th on.

    Args:
        dataset: Dataset; its ``set_epoch`` and ``set_seed`` are called if it has them.
        shuffle: Permute the samples, differently in each epoch.
        seed: Seed of the permutation and of the random numbers of the samples; ``None`` draws one for all ranks.
        round_up: Repeat some samples so that all ranks get equally many.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self._skip = 0
        self._tell_dataset('set_seed', self.seed)
        self._tell_dataset('set_epoch', self.epoch)

    def _tell_dataset(self, method: str, value: int) -> None:
        tell = getattr(self.dataset, method, None)
        if tell is not None:
            tell(value)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the permutation and of the dataset."""
        super().set_epoch(epoch)
        self._tell_dataset('set_epoch', epoch)

    def set_seed(self, seed: int) -> None:
        """Set the seed of the permutation and of the dataset; must be the same on all ranks."""
        self.seed = seed
        self._tell_dataset('set_seed', seed)

    def skip(self, num_samples: int) -> None:
        """Leave out the first ``num_samples`` samples of this rank in the next iteration, and only there.

        Raises:
            ConfigError: There are not so many samples.
        """
        if not 0 <= num_samples <= len(self):
            raise ConfigError(f'SeededSampler: cannot skip {num_samples} samples; expected 0 to {len(self)}')
        self._skip = num_samples

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indices of this rank."""
        start, self._skip = self._skip, 0
        return islice(super().__iter__(), start, None)
