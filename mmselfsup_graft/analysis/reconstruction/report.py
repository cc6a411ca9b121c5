"""Reconstructions of one or more checkpoints of a masked-image run, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose

from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.datasets.transforms import CorruptImage, build_pipeline
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.embedding.raw_images import image_files
from mmselfsup_graft.evaluation.other_pipeline import image_size, plain_pipeline, with_pipeline
from mmselfsup_graft.evaluation.whole_model import load_model
from mmselfsup_graft.registry import DATASETS
from mmselfsup_graft.utils.progress import Progress

if TYPE_CHECKING:
    from .plot import Pictures


def draw_checkpoints(
    cfg: Config,
    checkpoints: Sequence[Path],
    target: Path,
    files: Sequence[Path] = (),
    num_images: int = 8,
    seed: int = 0,
    side: int | None = None,
) -> None:
    """Draw images, their masked form and the reconstruction of every checkpoint.

    One checkpoint: its reconstruction, and the same with the visible part pasted in. Several: one row of the
    latter each, with the same masks.

    Args:
        cfg: Config of the run.
        checkpoints: Checkpoints of that run, or of runs of the same config.
        target: PNG to write.
        files: Photos, or folders of photos, instead of the config's data.
        num_images: Number of images from a folder or the config's data; single photos are all used.
        seed: Of the masks.
        side: Length in pixels to which the shorter side of every photo is scaled. It is then reconstructed as a whole,
            in overlapping windows of the model's input size. None: that size, center-cropped.

    Raises:
        ConfigError: If the model predicts no pixels, the config does not define the image size, or ``side`` is
            smaller than that or given without photos.
        CheckpointError: If a checkpoint does not fit the model.
        DataError: If there are no images, or one cannot be read.
    """
    from mmselfsup_graft.analysis.figures.picture_grid import draw_rows, draw_titled_rows

    from .plot import NAMES

    if target.suffix.lower() != '.png':
        raise ConfigError(f'{str(target)!r} must end in .png')
    if num_images < 1:
        raise ConfigError(f'at least one image must be drawn, got {num_images}')
    if side and not files:
        raise ConfigError('a side is the size of whole photos: give photos or folders, or leave it out')
    done = list(_reconstructed(cfg, checkpoints, files, num_images, seed, side))
    if len(done) == 1:
        rows = dict(zip(NAMES, done[0]))
    else:
        rows = dict(zip(NAMES[:2], done[0][:2]))
        rows |= {label: each.pasted for label, each in zip(checkpoint_labels(checkpoints), done, strict=True)}
    about = f'{cfg.model.type}, {checkpoint_labels(checkpoints)[0]}' if len(done) == 1 else cfg.model.type
    if side:  # photos differ in size: one row each
        draw_titled_rows([dict(zip(rows, photo)) for photo in zip(*rows.values(), strict=True)], target)
    else:
        draw_rows(rows, target, about.replace('\n', ''))


def _reconstructed(
    cfg: Config, checkpoints: Sequence[Path], files: Sequence[Path], count: int, seed: int, side: int | None
) -> Iterator['Pictures']:
    """The reconstructions of every checkpoint; one model in memory at a time."""
    from .plot import Pictures, find_reconstructor, pixel_statistics, reconstruct_images

    progress = Progress('reconstructing', len(checkpoints))
    batches: Sequence[torch.Tensor] | None = None
    for checkpoint in checkpoints:
        model: Any = load_model(cfg, checkpoint)
        reconstructor, _ = find_reconstructor(model)
        size = image_size(cfg, model.backbone)
        if batches is None:
            batches = _batches(cfg, size, files, count, side)
        parts = [
            reconstruct_images(reconstructor, images, *pixel_statistics(model), seed + number, size)
            for number, images in enumerate(batches)
        ]
        yield Pictures(*([picture for part in parts for picture in part[kind]] for kind in range(len(parts[0]))))
        progress.step()


def _batches(
    cfg: Config, size: tuple[int, int], files: Sequence[Path], count: int, side: int | None
) -> Sequence[torch.Tensor]:
    """Raw pixels [N, C, H, W]: all images in one batch or, whole photos of ``side`` pixels, every photo on its own."""
    if not files:
        return [images_of(cfg, size, count)]
    if side is None:
        return [torch.stack(images_of_files(files, plain_pipeline(cfg, size), count))]
    if side < max(size):
        raise ConfigError(
            f'the side of photos is {side}, expected at least {size[0]} x {size[1]}, the input of the model'
        )
    load, _, _, pack = plain_pipeline(cfg, size)
    resize = dict(type='mmpretrain.torchvision/Resize', size=side, interpolation='bicubic')
    return [image[None] for image in images_of_files(files, [load, resize, pack], count)]


def checkpoint_labels(checkpoints: Sequence[Path]) -> list[str]:
    """Label of each checkpoint: its file name, with its folder on a line before it if needed."""
    names = [path.stem for path in checkpoints]
    folders = [path.absolute().parent.name for path in checkpoints]
    short = len(set(names)) == len(names)
    labels = names if short else [f'{folder}/\n{name}' for folder, name in zip(folders, names)]
    if len(set(labels)) < len(labels):
        labels = [f'{number}: {label}' for number, label in enumerate(labels, 1)]
    return labels


def images_of(cfg: Config, size: tuple[int, int], count: int) -> torch.Tensor:
    """Images [N, C, H, W] spread over the config's test data or, without evaluation, its training data; raw pixels."""
    if 'evaluation' in cfg:
        return spread_images(DATASETS.build(cfg.evaluation.test), count)
    data = with_pipeline(cfg.train_dataloader.dataset, plain_pipeline(cfg, size))
    if data['type'] == 'SamplePhotos':
        data['split'] = 'test'
    return spread_images(DATASETS.build(data), count)


def spread_images(dataset: SelfSupDataset, count: int) -> torch.Tensor:
    """Up to ``count`` images spread over a data set, [N, C, H, W] raw pixels; the first view of several."""
    step = max(1, len(dataset) // count)
    inputs = [dataset[i]['inputs'] for i in range(0, min(len(dataset), step * count), step)]
    return torch.stack([each[0] if isinstance(each, list | tuple) else each for each in inputs])


def images_of_files(files: Sequence[Path], pipeline: Sequence[Mapping[str, Any]], count: int) -> list[torch.Tensor]:
    """All given photos and the first ``count`` of every folder, each [C, H, W] raw pixels.

    Raises:
        DataError: If one is missing or cannot be read, or a folder has none.
    """
    transform = Compose(build_pipeline([dict(step) for step in pipeline]))
    images = []
    for path in image_files(files, count):
        try:
            images.append(transform({'img_path': str(path)})['inputs'])
        except CorruptImage as error:
            raise DataError(f'{path} cannot be read as an image ({error})') from error
    return images
