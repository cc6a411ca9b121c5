"""Interaction strength of fine-tuned classifiers: from config and checkpoints to a table and a figure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mmselfsup_graft.checkpoints import check_fit, read_state
from mmselfsup_graft.errors import CheckpointError, ConfigError, DataError
from mmselfsup_graft.evaluation.compared_checkpoints import Compared, write_rows
from mmselfsup_graft.evaluation.encoders import preprocessing
from mmselfsup_graft.evaluation.other_pipeline import with_pipeline
from mmselfsup_graft.evaluation.scoring import labels_of
from mmselfsup_graft.registry import DATASETS, MODELS
from mmselfsup_graft.utils.files import write_text

from .measure import (
    InteractionSettings,
    InteractionStrength,
    check_image_size,
    interaction_strength,
    measure_interactions,
)

_COLUMNS = (
    'model',
    'order',
    'context_patches',
    'share_of_patches',
    'strength',
    'standard_error',
    'mean_absolute_interaction',
)


@dataclass(frozen=True)
class DrawnImages:
    """Images for the measurement.

    Attributes:
        pixels: [N, C, H, W] uint8.
        labels: [N].
        indices: Their numbers in the data set, [N].
    """

    pixels: torch.Tensor
    labels: list[int]
    indices: list[int]


@dataclass(frozen=True)
class ModelInteractions:
    """Measurements of one model.

    Attributes:
        settings: Settings of the sampling.
        strength: Per order.
        correct: Share of the unmasked images that the model classifies correctly.
        images: Number of images.
    """

    settings: InteractionSettings
    strength: InteractionStrength
    correct: float
    images: int

    @property
    def shares(self) -> np.ndarray:
        """Order as a share of the n patches, [R]."""
        return np.array(self.settings.context_sizes) / self.settings.players


def check_classifier(cfg: Config) -> None:
    """Raise an error if a config is not of a classifier, before anything is read.

    Raises:
        ConfigError: If it is not of a classifier, or has no training or test data.
    """
    kind = str(cfg.model.get('type', '')).rpartition('.')[2]
    if kind not in ('GraftedClassifier', 'ImageClassifier'):
        raise ConfigError(
            f'interactions are measured on a classifier, model.type is {kind or "missing"}; fine-tune the checkpoint '
            '(tools/finetune.py) and give that config (configs/benchmarks/finetune) with its best_*.pth'
        )
    for side in ('train_dataloader', 'test_dataloader'):
        if cfg.get(side) is None:
            raise ConfigError(f'{side} is missing in the config; training images go through the test pipeline')


def load_classifier(cfg: Config, checkpoint: Path | None, seed: int = 0) -> Any:
    """The classifier of a config with the weights of one of its checkpoints, or fresh ones; in eval mode.

    Args:
        cfg: See :func:`check_classifier`.
        checkpoint: Checkpoint of ``tools/finetune.py``; None for fresh weights.
        seed: Of fresh weights.

    Raises:
        CheckpointError: If the file does not fit this model.
    """
    state = {} if checkpoint is None else read_state(checkpoint)
    options: dict[str, Any] = {'data_preprocessor': preprocessing(cfg), 'train_cfg': None}  # images are not mixed
    if 'graft' in cfg.model:
        options['graft'] = None  # all weights are in the checkpoint: nothing is grafted again
    if str(cfg.model.head.get('type', '')).rpartition('.')[2] == 'FirstFCHead' and 'head.fc0.weight' in state:
        first = state['head.fc0.weight']
        if first.ndim != 2 or first.shape[1] != cfg.model.head.in_channels:
            raise CheckpointError(
                f'{checkpoint} does not fit this model: head.fc0.weight has shape {tuple(first.shape)}'
            )
        options['head'] = {**cfg.model.head, 'projector': None, 'hidden_channels': len(first)}
    model: Any = MODELS.build({**cfg.model, **options})
    if checkpoint is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model._dump_init_info = lambda *_: None  # mmengine would list every tensor on the terminal
            model.init_weights()
    else:
        check_fit(checkpoint, state, model.state_dict())
        model.load_state_dict(state)
    return model.eval()


def draw_training_images(cfg: Config, count: int, seed: int = 0) -> DrawnImages:
    """A seeded draw of the training images, with the test pipeline.

    Raises:
        ConfigError: If there are fewer images.
        DataError: If they have no labels or other shapes than each other.
    """
    pipeline = cfg.test_dataloader.dataset.pipeline
    dataset = DATASETS.build(with_pipeline(cfg.train_dataloader.dataset, pipeline, test_mode=True))
    if not 1 <= count <= len(dataset):
        raise ConfigError(f'{count} images requested, the training data has {len(dataset)}; see --images')
    labels = labels_of(dataset)
    indices = np.random.RandomState(seed).permutation(len(dataset))[:count].tolist()
    pixels = [dataset[index]['inputs'] for index in indices]
    if len({image.shape for image in pixels}) > 1:
        raise DataError('the test pipeline gives images of several shapes; let it end with a crop')
    return DrawnImages(torch.stack(pixels), [int(labels[index]) for index in indices], indices)


def default_grid(height: int, width: int) -> int:
    """Default number of patches per side: 14 if it divides the image, as in the paper at 224 pixels, else 16."""
    return 16 if height % 14 or width % 14 else 14


def compare_interactions(
    entries: Sequence[Compared],
    device: torch.device,
    images: int = 500,
    batch_size: int = 256,
    grid: int | None = None,
    **settings: Any,
) -> Iterator[tuple[str, ModelInteractions]]:
    """Interaction strength of several checkpoints on the same draw of images, pairs and contexts, one after the other.

    All errors are raised now, before the first measurement; each is measured on iteration.

    Args:
        entries: Models and checkpoints.
        device: Device for the computation.
        images: Training images.
        batch_size: Masked images per forward pass.
        grid: Patches per side; None takes :func:`default_grid`.
        **settings: Of :class:`InteractionSettings`.

    Raises:
        ConfigError: If a setting is impossible or a config is not of a classifier.
        CheckpointError: If a file does not fit its model.
        DataError: If images have no labels or the strength is undefined.
    """
    if batch_size < 1:
        raise ConfigError(f'the batch size must be at least 1, got {batch_size}')
    InteractionSettings(grid=grid or 16, **settings)
    for entry in entries:
        check_classifier(entry.cfg)
    seed = settings.get('seed', 0)
    ready = [(entry.name, load_classifier(entry.cfg, entry.checkpoint, seed)) for entry in entries]
    drawn = {id(entry.cfg): draw_training_images(entry.cfg, images, seed) for entry in entries}
    plans = {}
    for key, each in drawn.items():
        height, width = each.pixels.shape[2:]
        plans[key] = InteractionSettings(grid=grid or default_grid(height, width), **settings)
        check_image_size(height, width, plans[key].grid)
    keys = [id(entry.cfg) for entry in entries]
    return (
        (name, measure_classifier(model.to(device), plans[key], drawn[key], batch_size, name))
        for (name, model), key in zip(ready, keys)
    )


def measure_classifier(
    model: Any, settings: InteractionSettings, images: DrawnImages, batch_size: int = 256, name: str = ''
) -> ModelInteractions:
    """Interaction strength of one classifier in eval mode.

    Args:
        model: Result of :func:`load_classifier`.
        settings: Settings of the sampling.
        images: Result of :func:`draw_training_images`.
        batch_size: Masked images per forward pass.
        name: Name in the progress display.

    Raises:
        DataError: If the strength is undefined.
    """
    normalized, title = normalize(model, images.pixels), f'interactions of {name}'
    found = measure_interactions(model, list(normalized), images.labels, images.indices, settings, batch_size, title)
    return ModelInteractions(
        settings, interaction_strength(found), share_correct(model, normalized, images.labels), len(images.labels)
    )


@torch.inference_mode()
def normalize(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Images [N, C, H, W] as the model's preprocessor normalizes them, on the CPU."""
    return torch.cat([model.data_preprocessor({'inputs': part}, False)['inputs'].cpu() for part in pixels.split(64)])


@torch.inference_mode()
def share_correct(model: Any, images: torch.Tensor, labels: Sequence[int], batch_size: int = 64) -> float:
    """Share of whole images [N, C, H, W], normalized, that a classifier in eval mode classifies correctly."""
    device = next(model.parameters()).device
    guesses = torch.cat([model(part.to(device)).argmax(1).cpu() for part in images.split(batch_size)])
    return float((guesses == torch.tensor(labels)).double().mean())


def report_interaction(models: Mapping[str, ModelInteractions], out_dir: Path, title: str = '') -> str:
    """Write ``interaction_strength.csv``, ``.png`` and ``.txt``; returns the text.

    Args:
        models: Name -> measurements.
        out_dir: Folder to write into.
        title: Heading of the picture.
    """
    from .plot import draw_interaction

    out_dir.mkdir(parents=True, exist_ok=True)
    rows = [row for name, found in models.items() for row in _rows(name, found)]
    write_rows(out_dir / 'interaction_strength.csv', _COLUMNS, rows)
    strengths = {name: found.strength for name, found in models.items()}
    shares = {name: found.shares for name, found in models.items()}
    draw_interaction(strengths, shares, out_dir / 'interaction_strength.png', title)
    text = interaction_table(models)
    write_text(out_dir / 'interaction_strength.txt', f'{text}\n')
    return text


def _rows(name: str, found: ModelInteractions) -> list[list[Any]]:
    settings, strength = found.settings, found.strength
    columns = zip(
        settings.orders,
        settings.context_sizes,
        found.shares.tolist(),
        strength.strength.tolist(),
        strength.standard_error.tolist(),
        strength.mean_absolute.tolist(),
    )
    return [[name, *values] for values in columns]


def interaction_table(models: Mapping[str, ModelInteractions]) -> str:
    """J per order and model with its standard error, and the share of correct images of each model, as text."""
    first = next(iter(models.values()))
    width = max(15, *(len(name) + 2 for name in models))
    lines = [_settings_text(first), f'{"order":>8}' + ''.join(f'{name:>{width}}' for name in models)]
    for number, order in enumerate(first.settings.orders):
        cells = [_cell(found.strength, number) for found in models.values()]
        lines.append(f'{order:>8.2f}' + ''.join(f'{cell:>{width}}' for cell in cells))
    shares = [f'{100 * found.correct:.1f} %' for found in models.values()]
    lines.append(f'{"correct":>8}' + ''.join(f'{share:>{width}}' for share in shares))
    return '\n'.join(lines)


def _settings_text(found: ModelInteractions) -> str:
    settings = found.settings
    return (
        f'interaction strength J, mean over orders 1, ± standard error over {found.images} images; '
        f'{settings.grid}x{settings.grid} patches, {settings.pairs} pairs per image, {settings.contexts} contexts, '
        f'reward {settings.reward}'
    )


def _cell(strength: InteractionStrength, number: int) -> str:
    error = strength.standard_error[number]
    return f'{strength.strength[number]:.3f}' + (f' ± {error:.3f}' if np.isfinite(error) else '')
