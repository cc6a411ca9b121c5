"""Spectrum of features over depth: from config and checkpoints to a table and figures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from torch import nn
from torch.utils.data import DataLoader, Subset

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation import load_backbone
from mmselfsup_graft.evaluation.compared_checkpoints import Compared, write_rows
from mmselfsup_graft.evaluation.encoders import preprocessor_of
from mmselfsup_graft.evaluation.scoring import read_evaluation
from mmselfsup_graft.registry import DATASETS
from mmselfsup_graft.utils.files import write_text
from mmselfsup_graft.utils.progress import Progress

from .measure import LayerSpectrum, measure_spectrum

_COLUMNS = ('model', 'layer', 'kind', 'depth', 'side', 'frequency_pi', 'relative_log_amplitude', 'variance')


def analyzed_data(cfg: Config) -> dict[str, Any]:
    """Config of the images to measure: the test set of ``evaluation``, else that of ``test_dataloader``.

    Raises:
        ConfigError: If the config has neither.
    """
    if cfg.get('evaluation') is not None:
        return read_evaluation(cfg, []).data['test']
    if cfg.get('test_dataloader') is not None:
        return cfg.test_dataloader.dataset.to_dict()
    raise ConfigError(
        'this config has neither an `evaluation` section (configs/_base_/evaluation/) nor a test_dataloader to take '
        'images from'
    )


def image_batches(
    cfg: Config, preprocessor: nn.Module, batches: int, batch_size: int, seed: int = 0, title: str = 'spectrum'
) -> Iterator[torch.Tensor]:
    """Normalized batches [B, C, H, W] of a seeded draw of the images; fewer if the data set is smaller.

    Args:
        cfg: See :func:`analyzed_data`.
        preprocessor: Normalizes a batch, on its device.
        batches: Largest number of batches.
        batch_size: Images in each.
        seed: Of the draw.
        title: Title of the progress display.
    """
    dataset = DATASETS.build(analyzed_data(cfg))
    drawn = np.random.RandomState(seed).permutation(len(dataset))[: batches * batch_size].tolist()
    loader = DataLoader(Subset(dataset, drawn), batch_size=batch_size, collate_fn=default_collate)
    progress = Progress(title, len(loader))
    for batch in loader:
        inputs = preprocessor(batch, False)['inputs']
        yield inputs[0] if isinstance(inputs, list | tuple) else inputs
        progress.step()


def encoder_of(entry: Compared, seed: int = 0) -> nn.Module:
    """The encoder of an entry with its weights, in eval mode, on the CPU.

    Raises:
        ConfigError: If the config has no encoder.
        CheckpointError: If the file does not fit it.
    """
    if entry.cfg.get('model', {}).get('backbone') is None:
        raise ConfigError(f'the config of {entry.name} has no model.backbone to analyze')
    return load_backbone(entry.cfg.model.backbone, entry.checkpoint, seed)


def spectrum_of_checkpoint(
    entry: Compared, device: torch.device, batches: int = 26, batch_size: int = 256, seed: int = 0
) -> list[LayerSpectrum]:
    """Spectrum and variance of every layer of an encoder.

    Args:
        entry: Config with ``model.backbone``, preprocessor and images; checkpoint of any known format.
        device: Device for the computation.
        batches: Largest number of batches.
        batch_size: Images in each.
        seed: Of the draw of images and of fresh weights.

    Raises:
        ConfigError: If the config lacks what is needed or the maps are not square.
        CheckpointError: If the file does not fit the encoder.
        DataError: If a feature is not finite.
    """
    backbone = encoder_of(entry, seed).to(device)
    preprocessor = preprocessor_of(entry.cfg).to(device)
    title = f'spectrum of {entry.name}'
    return measure_spectrum(backbone, image_batches(entry.cfg, preprocessor, batches, batch_size, seed, title))


def report_spectrum(models: Mapping[str, Sequence[LayerSpectrum]], out_dir: Path) -> str:
    """Write ``feature_spectrum.csv``, ``.txt`` and two pictures; returns the text.

    Args:
        models: Name -> layers, lowest first.
        out_dir: Folder to write into.
    """
    from .plot import draw_over_depth, draw_spectra

    out_dir.mkdir(parents=True, exist_ok=True)
    rows = [row for name, layers in models.items() for row in _rows(name, layers)]
    write_rows(out_dir / 'feature_spectrum.csv', _COLUMNS, rows)
    draw_spectra(models, out_dir / 'feature_spectrum.png')
    draw_over_depth(models, out_dir / 'feature_depth.png')
    text = '\n\n'.join(f'{name}\n{spectrum_table(layers)}' for name, layers in models.items())
    write_text(out_dir / 'feature_spectrum.txt', f'{text}\n')
    return text


def _rows(name: str, layers: Sequence[LayerSpectrum]) -> Iterator[list[Any]]:
    for number, layer in enumerate(layers):
        depth = number / max(1, len(layers) - 1)
        for frequency, value in zip(layer.frequencies.tolist(), layer.amplitude.tolist()):
            yield [name, layer.name, layer.kind, depth, layer.side, frequency, value, layer.variance]


def spectrum_table(layers: Sequence[LayerSpectrum]) -> str:
    """Map size, highest frequency and variance of every layer, as text."""
    width = max(len(layer.name) for layer in layers)
    lines = [f'{"layer":{width}}  {"kind":9}  {"map":>7}  {"highest frequency":>17}  {"variance":>10}']
    for layer in layers:
        size = f'{layer.side}x{layer.side}'
        highest = f'{layer.highest:.3f}' if np.isfinite(layer.highest) else '-'
        lines.append(f'{layer.name:{width}}  {layer.kind:9}  {size:>7}  {highest:>17}  {layer.variance:>10.4g}')
    return '\n'.join(lines)
