"""The samplers: seeded, rank-strided, resumable in the middle of an epoch."""

from collections.abc import Iterator, Sized
from itertools import islice

import torch
from mmengine.dataset import DefaultSampler

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` that passes seed and epoch to the dataset and can start within an epoch.

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
        """Skip the first ``num_samples`` samples of this rank in the next iteration only.

        Raises:
            ConfigError: There are not so many samples.
        """
        if not 0 <= num_samples <= len(self):
            raise ConfigError(f'{type(self).__name__}: cannot skip {num_samples} samples; expected 0 to {len(self)}')
        self._skip = num_samples

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indices of this rank."""
        start, self._skip = self._skip, 0
        return islice(super().__iter__(), start, None)


@DATA_SAMPLERS.register_module()
class RepeatedAugSampler(SeededSampler):
    """Repeated augmentation (Hoffer et al., arXiv 1901.09335): several augmented copies of each image.

    The permutation holds every image ``repeats`` times in succession; rank r of W takes every W-th entry from
    the r-th on, so copies are spread over the ranks. The length of an epoch does not change: it sees ``1 / repeats`` of
    the images. Differs from mmpretrain's RepeatAugSampler, where copies differ by the state of the worker's generators:
    copy k of image i is the index ``i + k * len(dataset)``, whose random numbers :class:`SelfSupDataset` keeps apart.

    Args:
        dataset: A :class:`SelfSupDataset`; its number of copies is set.
        shuffle: Permute the images, differently in each epoch; without, an epoch sees the first ones only.
        seed: See :class:`SeededSampler`.
        round_up: Add samples so that all ranks get equally many.
        repeats: Copies of each image.

    Raises:
        ConfigError: If there are no repeats, or the dataset cannot make copies.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
        repeats: int = 3,
    ) -> None:
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise ConfigError(f'RepeatedAugSampler: repeats must be a whole number of at least 1, got {repeats!r}')
        if not hasattr(dataset, 'set_copies'):
            raise ConfigError(
                f'RepeatedAugSampler: {type(dataset).__name__} cannot augment an image several times in an epoch; '
                'use a dataset of this toolbox, or SeededSampler'
            )
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self.repeats = repeats
        dataset.set_copies(repeats)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indices of this rank, copies included."""
        start, self._skip = self._skip, 0
        size = len(self.dataset)
        order = list(range(size))
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed + self.epoch)
            order = torch.randperm(size, generator=generator).tolist()
        places = range(self.rank, self.rank + len(self) * self.world_size, self.world_size)
        for place in islice(places, start, None):
            # fewer samples than needed to fill the ranks: start again from the first
            number, copy = divmod(place % (size * self.repeats), self.repeats)
            yield order[number] + copy * size
