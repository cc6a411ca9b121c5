"""The parent of all datasets: reproducible samples, corrupt images, optional labels."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mmselfsup_graft.errors import ConfigError, DataError

from .classes import given_classes
from .fast import FastPipeline, Gathered, compile_pipeline, resolve_mode
from .labeled_dataset import LabeledDataset
from .memory import Stacked, stack_samples
from .seeding import preserved_random_state, preserved_torch_state, sample_seed, seed_generators, seed_torch
from .skipped_files import MOST, LeftOut, check_share
from .subset import parse_parts
from .transforms import CorruptImage, build_pipeline

# So many successive unreadable images mean a wrong path or a disk failure, not damaged files.
_MAX_UNREADABLE_IN_A_ROW = 1000
_NAMED_UNREADABLE = 20


class SelfSupDataset(LabeledDataset):
    """Images with or without labels, whose samples depend on (seed, epoch, index) only.

    A sample is the same for any number of workers and after resuming in the middle of an epoch, and the caller's
    random generators are restored. Epoch and seed are in shared memory, so persistent workers see
    :meth:`set_epoch`; so do the marks of unreadable images, so the main process can count them.

    A sampler may ask for several copies of every image (:meth:`set_copies`): index ``i + k * len`` is then copy ``k``
    of image ``i``, with its own random numbers.

    A subclass implements :meth:`load_data_list`, whose items hold ``img_path`` or ``img`` (uint8, (H, W) or
    (H, W, C)) and, only if labeled, ``gt_label``; :meth:`read_image` adds images that are read one by one.

    Args:
        data_root: Folder of the data.
        ann_file: File with the list of samples, relative to ``data_root`` or absolute.
        pipeline: Transform configs or callables.
        metainfo: Extra meta information. ``classes``, a list of names or a file with one name per line (in
            ``data_root`` or the working folder), says how labels are numbered: classes are found in it by name, or by
            number where the data has no names.
        indices: Only the first n samples (the last for a negative n), or the samples with these numbers.
        serialize_data: Keep the samples pickled in one array that worker processes share.
        test_mode: The dataset is evaluated on; changes the default of ``on_corrupt`` only.
        lazy_init: Read the samples at first use instead of now.
        on_corrupt: ``'skip'`` replaces an unreadable image by the next readable one (with the random numbers of the
            original), ``'raise'`` raises. ``None`` stands for ``'raise'`` in test mode, where a replacement would
            change the result, and for ``'skip'`` otherwise.
        seed: Seed of the random numbers of all samples; :meth:`set_seed` changes it.
        part: ``dict(share=..., seed=0, rest=False)``, or a list of such dicts applied in order: keep a class-balanced
            share of the samples, or all but it, see :class:`mmselfsup_graft.datasets.Part`. Before ``indices``.
        fast: Compile the pipeline: the same random numbers, other kernels, see docs/speed.md. ``'cpu'`` does everything
            in the worker, ``'device'`` leaves flips, colors and blur to the data preprocessor, on the device that
            trains, ``'nvjpeg'`` also decoding and cropping, ``'dali'`` the same by NVIDIA DALI;
            ``True`` is ``'device'`` if there is a CUDA device and ``'cpu'`` otherwise. ``False`` runs the transforms on
            PIL images as they are.
        max_left_out: Share of the files or lines found that may be left out (unknown extensions, dead links, …); with
            more it is an error. 1 allows everything.

    Raises:
        ConfigError: ``data_root`` is given but not used, ``on_corrupt`` is unknown, ``part`` or a list of
            classes malformed, or ``fast`` unknown or impossible for the pipeline.
        DataError: There is no sample, too many files were skipped, a class is not in the list of classes, or an image
            is unreadable and may not or cannot be replaced.
    """

    #: how often every image can be asked for, see :meth:`set_copies`
    copies = 1
    #: whether there is something to read in ``data_root``
    reads_data_root = True

    def __init__(
        self,
        data_root: str = '',
        ann_file: str = '',
        pipeline: Sequence[dict[str, Any] | Callable] = (),
        *,
        metainfo: Mapping | None = None,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        test_mode: bool = False,
        lazy_init: bool = False,
        on_corrupt: str | None = None,
        seed: int = 0,
        part: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        fast: bool | str = False,
        max_left_out: float = MOST,
    ) -> None:
        if data_root and not self.reads_data_root:
            raise ConfigError(
                f'{type(self).__name__} has its own images and does not use data_root={data_root!r}; for a folder of '
                'images set type=ImageFolder, or take a config for folders (configs/*/*folder*)'
            )
        if on_corrupt not in (None, 'skip', 'raise'):
            raise ConfigError(f"{type(self).__name__}: on_corrupt is {on_corrupt!r}, expected 'skip' or 'raise'")
        self.on_corrupt = on_corrupt or ('raise' if test_mode else 'skip')
        self.parts = parse_parts(part)
        self.given = given_classes(metainfo, type(self).__name__, data_root)
        self.max_left_out = check_share(max_left_out, type(self).__name__)
        self.left_out, self.notes = LeftOut(), []
        self.fast = resolve_mode(fast)
        # compiled pipelines use torch's generator only; numpy's is slow to seed and to save
        self._seed_generators = seed_torch if self.fast else seed_generators
        self._preserved = preserved_torch_state if self.fast else preserved_random_state
        self._stacked: Stacked | None = None  # all samples, where batches are gathered
        self._clock = torch.tensor([seed, 0], dtype=torch.int64)  # seed, epoch
        self._corrupt = torch.zeros(0, dtype=torch.uint8)
        self._reason = ''  # of the last unreadable image
        super().__init__(
            ann_file=ann_file,
            metainfo={key: value for key, value in (metainfo or {}).items() if key != 'classes'},
            data_root=data_root,
            data_prefix={},
            indices=indices,
            serialize_data=serialize_data,
            pipeline=[compile_pipeline(pipeline, self.fast)] if self.fast else build_pipeline(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    # Initialization

    def full_init(self) -> None:
        """Read the list of samples; does nothing the second time."""
        if not self._fully_initialized:
            super().full_init()
            labels = self._labels  # known while the samples were not pickled
            self._reset_shared()
            self._labels = labels

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> list:
        try:
            subset = super()._get_unserialized_subset(indices)
        except IndexError as error:
            count = len(self.data_list)
            raise DataError(f'{type(self).__name__}: indices reach beyond its {count} samples') from error
        if not subset:
            raise DataError(f'{type(self).__name__}: indices={indices!r} leaves no sample; give at least one')
        return subset

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep only some samples, in place (see mmengine's ``BaseDataset.get_subset_``)."""
        super().get_subset_(indices)
        self._reset_shared()

    def get_subset(self, indices: int | Sequence[int]) -> 'SelfSupDataset':
        """Return a dataset of some of the samples, with its own epoch and marks of unreadable images."""
        subset = super().get_subset(indices)
        subset._reset_shared()
        return subset

    def _reset_shared(self) -> None:
        super()._reset_shared()
        self._corrupt = torch.zeros(len(self), dtype=torch.uint8)
        self._share()
        self._stacked = self._gatherable()

    def _gatherable(self) -> Stacked | None:
        """All samples in arrays, if batches can be gathered from them without any operation per image."""
        reads = type(self).read_image is not SelfSupDataset.read_image
        if reads or self._compiled is None or not self._compiled.gathers:
            return None
        return stack_samples(map(self.get_data_info, range(len(self))), self._compiled.decoder.channels)

    @property
    def _compiled(self) -> FastPipeline | None:
        transforms = self.pipeline.transforms
        return transforms[0] if len(transforms) == 1 and isinstance(transforms[0], FastPipeline) else None

    def _share(self) -> None:
        """Move the shared state to shared memory; no cost if it is there, needed again after a deep copy."""
        self._clock.share_memory_()
        self._corrupt.share_memory_()

    # Samples

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which changes the random numbers of the samples; running workers see it."""
        self._share()
        self._clock[1] = epoch

    def set_seed(self, seed: int) -> None:
        """Change the seed of the random numbers of all samples; running workers see it."""
        self._share()
        self._clock[0] = seed

    def set_copies(self, copies: int) -> None:
        """Allow indices below ``copies * len``, before worker processes start; the length stays as it is."""
        self.copies = copies

    def __getitem__(self, idx: int) -> dict:
        """Return the processed sample ``idx``; the caller's random state is restored."""
        with self._preserved():
            return self._sample(idx)

    def __getitems__(self, indices: Sequence[int]) -> list[dict] | Gathered:
        """Return several processed samples; torch's ``DataLoader`` calls this once per batch.

        Equal to one ``__getitem__`` each, but the caller's random state is saved only once, which is slow. Images that
        lie in memory and wait for the device are gathered at once, see :class:`mmselfsup_graft.datasets.fast.Gathered`.
        """
        compiled, stacked = self._compiled, self._stacked
        with self._preserved():
            if compiled is None or stacked is None:
                return [self._sample(idx) for idx in indices]
            chosen = [self._checked(idx) for idx in indices]
            seed, epoch = self._clock.tolist()
            places = [idx % len(stacked.images) for idx in chosen]
            return compiled.gather(
                stacked.images[places],
                None if stacked.labels is None else stacked.labels[places],
                (sample_seed(seed, epoch, idx) for idx in chosen),
            )

    def _checked(self, idx: int) -> int:
        """The index as a number from 0 on."""
        size = len(self._corrupt)
        if not -size <= idx < size * self.copies:
            raise IndexError(f'{type(self).__name__}: index {idx} is out of range for {size} samples')
        return idx if idx >= 0 else idx + size

    def _sample(self, idx: int) -> dict:
        size = len(self)
        idx = self._checked(idx)
        seed, epoch = self._clock.tolist()
        value = sample_seed(seed, epoch, idx)
        for step in range(min(size, _MAX_UNREADABLE_IN_A_ROW)):
            self._seed_generators(value)
            sample = self._try_sample((idx + step) % size)
            if sample is not None:
                return sample
        place = repr(self.data_root or 'memory')
        raise DataError(
            f'{type(self).__name__}: {step + 1} images in succession of {place} cannot be read (last: {self._reason}); '
            f'{_ADVICE}'
        )

    def _try_sample(self, idx: int) -> dict | None:
        """Run the pipeline on one sample; ``None`` if its image is unreadable and may be replaced."""
        info = self.get_data_info(idx)
        try:
            sample = self.pipeline(self.read_image(info))
            reason = 'the pipeline returned nothing'
        except CorruptImage as error:
            sample, reason = None, str(error)
        if sample is None:
            self._reason = reason
            self._report_corrupt(idx, _name_of(info), reason)
        return sample

    def read_image(self, info: dict) -> dict:
        """Add data that is not in the list of samples to an entry: ``img`` or ``img_bytes``; here nothing.

        ``img`` is a uint8 array (H, W) or (H, W, C), ``img_bytes`` the content of an image file, and either overrides
        ``img_path``, which is then only the image's name.
        """
        return info

    def _report_corrupt(self, idx: int, name: str, reason: str) -> None:
        if self.on_corrupt == 'raise':
            raise DataError(f'{name} cannot be read ({reason}); {_ADVICE}')
        if not self._corrupt[idx]:
            self._corrupt[idx] = 1
            met = self.num_corrupt
            if met <= _NAMED_UNREADABLE:
                more = '; further ones are only counted' if met == _NAMED_UNREADABLE else ''
                text = f'{name} cannot be read ({reason}); skipped{more}'
                print_log(text, logger='current', level=logging.WARNING)

    # What is known about the images

    @property
    def corrupt_mask(self) -> np.ndarray:
        """Which of the N samples were found unreadable so far, bool of shape (N,)."""
        return self._corrupt.numpy().astype(bool)

    @property
    def num_corrupt(self) -> int:
        """Number of unreadable images met so far by this process and its workers."""
        return int(self._corrupt.sum())

    def corrupt_files(self) -> list[str]:
        """Return the names of the unreadable images met so far by this process and its workers."""
        return [_name_of(self.get_data_info(int(idx))) for idx in self._corrupt.nonzero()]


_ADVICE = 'replace or remove it, or check data_root and the disk'


def _name_of(info: Mapping[str, Any]) -> str:
    return info.get('img_path') or f'in-memory image {info["sample_idx"]}'
