"""Figures of reconstructions during the training of a masked-image model."""

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmselfsup_graft.datasets.seeding import preserved_random_state
from mmselfsup_graft.engine.run_parts import unwrapped_model
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.models.eval_mode import eval_mode
from mmselfsup_graft.registry import DATASETS, HOOKS
from mmselfsup_graft.utils.files import open_regular, whole_file

if TYPE_CHECKING:
    from .plot import Pictures

_FOLDER = 'reconstructions'


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draw the same few images at intervals: original, masked, reconstruction, visible part pasted in.

    Writes ``reconstructions/epoch_K.png`` (``iter_K.png`` if counted in iterations) into the work directory, after
    every ``interval`` and at the end; existing figures are kept. Masks are the same in every figure. Loss,
    weights, modes, gradients and random state are not changed: a run ends with the same bits with or without it.

    Over ranks: the first process draws, the others continue.

    Args:
        interval: Epochs, or iterations, between two pictures.
        by_epoch: Count in epochs.
        num_images: Images in a picture; fewer if a batch or the data set has fewer.
        dataset: Config of the data set whose first images are drawn. None: the first images of the first batch that is
            trained on, as its pipeline made them; they are kept in ``reconstructions/images.npy`` for a resumed run.
        seed: Of the masks.

    Raises:
        ConfigError: If a number is less than 1, the model predicts no pixels, or cannot process the images of the
            data set.
    """

    priority = 'LOW'
    needs_whole_weights = True

    def __init__(
        self,
        interval: int = 25,
        by_epoch: bool = True,
        num_images: int = 4,
        dataset: dict | None = None,
        seed: int = 0,
    ) -> None:
        if interval < 1 or num_images < 1:
            raise ConfigError(
                f'ReconstructionHook: interval and num_images must be at least 1, got {interval} and {num_images}'
            )
        self.interval, self.by_epoch, self.num_images = interval, by_epoch, num_images
        self.dataset, self.seed = dataset, seed
        self._images: torch.Tensor | None = None  # [B, C, H, W], raw pixels

    def before_train(self, runner: Runner) -> None:
        """Find the part that predicts pixels, and the images, so that errors are raised before the training."""
        from .plot import find_reconstructor  # loads matplotlib

        model = unwrapped_model(runner)
        _, view = find_reconstructor(model)
        kept = Path(runner.work_dir) / _FOLDER / 'images.npy'
        if self.dataset is not None:
            with preserved_random_state(), torch.random.fork_rng():
                self._images = self._first_of_dataset(self.dataset, view)
            self._check_images(model, self._images)
        elif runner.iter and kept.is_file():
            self._images = _kept_images(kept)
            self._check_images(model, self._images, str(kept))

    def _first_of_dataset(self, config: dict, view: int | None) -> torch.Tensor:
        dataset = DATASETS.build(config)
        samples = [dataset[number]['inputs'] for number in range(min(self.num_images, len(dataset)))]
        images = [each if isinstance(each, torch.Tensor) else each[view or 0] for each in samples]
        shapes = sorted({tuple(each.shape) for each in images})
        if len(shapes) > 1:
            raise ConfigError(f'ReconstructionHook.dataset gives images of several shapes {shapes}; crop them to one')
        return torch.stack(images)

    def _check_images(self, model: Any, images: torch.Tensor, origin: str = 'ReconstructionHook.dataset') -> None:
        """Reconstruct once to check the images."""
        try:
            self._reconstruct(model, images)
        except (ConfigError, RuntimeError, ValueError, AssertionError) as error:
            reason = ' '.join(str(error).split())[:200] or type(error).__name__
            raise ConfigError(
                f'{origin} gives images of shape {tuple(images.shape[1:])}, which the model cannot '
                f'process ({reason}); give it the size and channels of the training images'
            ) from error

    def _reconstruct(self, model: Any, images: torch.Tensor) -> 'Pictures':
        from .plot import find_reconstructor, pixel_statistics, reconstruct_images

        device = next(model.parameters()).device
        with eval_mode(model):
            return reconstruct_images(
                find_reconstructor(model)[0], images.to(device), *pixel_statistics(model), self.seed
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the first images of the first batch, if no data set is given."""
        if self._images is not None or not is_main_process():
            return
        from .plot import find_reconstructor

        _, view = find_reconstructor(unwrapped_model(runner))
        inputs = data_batch['inputs']
        batch = inputs if isinstance(inputs, torch.Tensor) else inputs[view or 0]
        self._images = batch[: self.num_images].cpu().clone()
        with whole_file(Path(runner.work_dir) / _FOLDER / 'images.npy') as file:
            np.save(file, self._images.numpy())

    def after_train_epoch(self, runner: Runner) -> None:
        """Draw at the interval, if it is in epochs."""
        if self.by_epoch and (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            self._draw(runner, 'epoch', runner.epoch + 1)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Draw at the interval, if it is in iterations."""
        if self.by_epoch:
            return
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self._draw(runner, 'iter', runner.iter + 1)

    def _draw(self, runner: Runner, unit: str, number: int) -> None:
        target = Path(runner.work_dir) / _FOLDER / f'{unit}_{number}.png'
        if self._images is None or target.exists() or not is_main_process():
            return
        from .plot import draw_pictures

        model = unwrapped_model(runner)
        title = f'{type(model).__name__} after {"epoch" if self.by_epoch else "iteration"} {number}'
        draw_pictures(self._reconstruct(model, self._images), target, title)
        runner.logger.info(f'reconstructions: {target}')


def _kept_images(path: Path) -> torch.Tensor:
    """Images [B, C, H, W] that an earlier part of the run kept.

    Raises:
        DataError: If the file is damaged.
    """
    try:
        with open_regular(path) as file:
            images = np.load(file, allow_pickle=False)
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
            raise ValueError('it does not hold images')
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError, zipfile.BadZipFile) as error:
        raise DataError(f'{str(path)!r} is damaged ({error}); remove it and run the command again') from error
    return torch.from_numpy(images)
