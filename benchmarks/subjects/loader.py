"""Data loaders: JPEG files to batches, by the pipelines of the toolbox, of mmpretrain and of the official code.

A subject is a recipe, ``mae`` (one bicubic crop) or ``mocov3`` (two augmented views), with ``-N`` for N loader
processes; a step is one batch.
"""

from collections.abc import Iterator
from typing import Any

import torch
from harness.task import Settings, Task
from harness.threads import set_threads
from torch.utils.data import DataLoader, Dataset, RandomSampler

from mmselfsup_graft.errors import ConfigError

from . import pipelines

PIL, PIL_UINT8, MMPRETRAIN, OURS = 'pil', 'pil-uint8', 'mmpretrain', 'ours'
FAST_CPU, FAST_DEVICE, FAST_NVJPEG = 'ours-fast-cpu', 'ours-fast-device', 'ours-fast-nvjpeg'
WHOLE = '+preprocessor'
FAST = {FAST_CPU: 'cpu', FAST_DEVICE: 'device', FAST_NVJPEG: 'nvjpeg'}
_WHOLE = tuple(name + WHOLE for name in FAST)
# files that nobody has decoded are not a batch: nvJPEG has no row without the rest
IMPLEMENTATIONS = (PIL, PIL_UINT8, MMPRETRAIN, OURS, FAST_CPU, FAST_DEVICE, *_WHOLE)
RECIPES = ('mae', 'mocov3')
PREFETCH = 2  # batches that each process may have ready, or be at work on, before they are asked for
_ENDLESS = 2**48  # images


class Loading(Task):
    """Batches of a data set; every block is a fresh pass, so that no process works ahead while others are timed.

    The pass has no end: the processes are as busy behind the last timed batch as behind the first.

    Args:
        dataset: Images with their pipeline.
        collate: Makes a batch of samples.
        settings: Shared settings.
        preprocessor: What the training does to a batch on its device before the model sees it, if that is timed too.
    """

    def __init__(self, dataset: Dataset, collate: Any, settings: Settings, preprocessor: Any = None) -> None:
        self.dataset, self.collate, self.settings, self.preprocessor = dataset, collate, settings, preprocessor
        self.images = settings.batch_size
        self.cpu_of_children = settings.workers > 0
        self._shape = ''

    def block(self, clock: Any, steps: int) -> dict[str, float]:
        """Time of ``steps`` batches after the lead-in."""
        batches = endless_batches(self.dataset, self.collate, self.settings)
        for _ in range(lead_in(self.settings.workers)):
            next(batches)
        with clock:
            for _ in range(steps):
                batch = next(batches)
                if self.preprocessor is not None:
                    batch = self.preprocessor(batch, True)
        self._shape = describe(batch)
        return clock.seconds

    def facts(self) -> dict[str, Any]:
        """What a batch is."""
        return {'batch': self._shape}


def lead_in(workers: int) -> int:
    """Untimed batches at the start of a block: those that the processes make at once as they start, and one more."""
    return workers * PREFETCH + 1 if workers else 0


def enough_steps(given: int | None, usual: int, workers: int) -> int:
    """Steps of a block that is long beside the batches which may lie ready as the clock starts.

    Args:
        given: As asked for; None for as many as needed.
        usual: Without processes, and the least that is chosen here.
        workers: The largest number of loader processes.

    Raises:
        ConfigError: If fewer are asked for than twice the batches that may lie ready.
    """
    least = 2 * workers * PREFETCH
    if given is None:
        return max(usual, least)
    if given < least:
        raise ConfigError(
            f'--steps {given}: with {workers} loader processes, which work up to {workers * PREFETCH} batches ahead, '
            f'a block needs at least {least} steps; leave --steps out, or take fewer --workers'
        )
    return given


def endless_batches(dataset: Dataset, collate: Any, settings: Settings) -> Iterator[Any]:
    """Batches of images drawn with replacement, without end; the processes end when the iterator is dropped."""
    sampler = RandomSampler(dataset, replacement=True, num_samples=_ENDLESS)  # type: ignore[arg-type]
    loader = DataLoader(
        dataset,
        batch_size=settings.batch_size,
        sampler=sampler,
        num_workers=settings.workers,
        prefetch_factor=PREFETCH if settings.workers else None,
        collate_fn=collate,
        pin_memory=settings.device == 'cuda',
        worker_init_fn=one_thread if settings.workers else None,
    )
    return iter(loader)


def one_thread(_: int) -> None:
    """What a loader process does at its start: work on one core."""
    set_threads(1)


def describe(batch: Any) -> str:
    """Kind and shape of the images of a batch."""
    inputs = batch['inputs'] if isinstance(batch, dict) else batch
    if isinstance(inputs, torch.Tensor):
        return f'{str(inputs.dtype).removeprefix("torch.")} {"x".join(map(str, inputs.shape))}'
    parts = [describe(part) for part in inputs if isinstance(part, torch.Tensor | list | tuple)]
    return ' + '.join(dict.fromkeys(part for part in parts if part)) if parts else ''


def build(subject: str, implementation: str, settings: Settings) -> Task:
    """The loader of one implementation."""
    recipe, _, workers = subject.partition('-')
    settings = settings._replace(workers=int(workers or settings.workers))
    if implementation in (PIL, PIL_UINT8):
        return Loading(*pipelines.official(recipe, settings.data, normalize=implementation == PIL), settings)
    if implementation == MMPRETRAIN:
        return Loading(*pipelines.of_mmpretrain(recipe, settings.data), settings)
    cfg = pipelines.own_config(recipe, settings.data, FAST.get(implementation.removesuffix(WHOLE)))
    dataset, collate = pipelines.of_config(cfg)
    preprocessor = None
    if implementation.endswith(WHOLE):
        preprocessor = pipelines.own_preprocessor(cfg).to(settings.device)
    return Loading(dataset, collate, settings, preprocessor)
