"""Frozen features of a data set."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dataset import default_collate
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmselfsup_graft.checkpoints import GraftSource, depth_of, graft_weights
from mmselfsup_graft.errors import DataError
from mmselfsup_graft.models.foreign_weights import refuse_pretrained_init
from mmselfsup_graft.registry import MODELS


def load_backbone(backbone: dict, checkpoint: str | os.PathLike | None, seed: int = 0) -> nn.Module:
    """Build an encoder and fill it from a checkpoint of any known format, or freshly if there is none.

    Args:
        backbone: Config of the encoder.
        checkpoint: File to load all weights from; None for a random encoder.
        seed: Of the fresh initialisation.

    Raises:
        CheckpointError: If any tensor of the encoder is missing in the file or has another shape.
    """
    refuse_pretrained_init(backbone, 'evaluation')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS.build(backbone)
        model._dump_init_info = lambda *_: None  # mmengine would list every tensor on the terminal
        model.init_weights()
    if checkpoint is not None:
        weights, _ = graft_weights(
            [GraftSource(str(checkpoint))],
            model.state_dict(),
            depth_of(model),
            grid=getattr(model, 'patch_resolution', None),
            optional=getattr(model, 'graft_optional', ()),
        )
        model.load_state_dict(weights, strict=False)
    model.eval()  # returns None for mmpretrain's backbones
    return model


def _loader(dataset: Dataset, batch_size: int, num_workers: int) -> DataLoader:
    return DataLoader(dataset, batch_size=batch_size, num_workers=num_workers, collate_fn=default_collate)


def _labels(samples: Sequence) -> list[int]:
    if any('gt_label' not in sample for sample in samples):
        raise DataError('evaluation needs labelled images: put them into one sub-folder per class')
    return [int(sample.gt_label) for sample in samples]


@torch.no_grad()
def extract_features(
    backbone: nn.Module, preprocessor: nn.Module, dataset: Dataset, batch_size: int = 256, num_workers: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features of all samples of a data set.

    Args:
        backbone: Encoder in eval mode; its last output is the feature: [B, D] (class token after the final norm for a
            ViT), or a map [B, D, H, W] that is averaged over H and W.
        preprocessor: Normalises a collated batch on the device.
        dataset: Packed, labelled samples.
        batch_size: Images per forward pass.
        num_workers: Loader processes.

    Returns:
        Features [N, D] float32 and labels [N] int64, without the images that cannot be read.

    Raises:
        DataError: If samples carry no labels.
    """
    device = next(backbone.parameters()).device
    preprocessor = preprocessor.to(device)
    features, labels = [], []
    for batch in _loader(dataset, batch_size, num_workers):
        batch = preprocessor(batch, False)
        inputs = batch['inputs']
        inputs = inputs[0] if isinstance(inputs, list | tuple) else inputs
        output = backbone(inputs)[-1].float()
        features.append((output.flatten(2).mean(2) if output.dim() == 4 else output).cpu().numpy())
        labels += _labels(batch['data_samples'])
    return _readable(dataset, np.concatenate(features), np.array(labels, dtype=np.int64))


def _readable(dataset: Dataset, features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the rows of unreadable images, in whose place the data set gave another one."""
    corrupt = getattr(dataset, 'corrupt_mask', np.zeros(len(labels), dtype=bool))
    return features[~corrupt], labels[~corrupt]


def pixels_as_features(dataset: Dataset, batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of the evaluation crop themselves, in [0, 1]: [N, C * H * W] and labels [N]."""
    pixels, labels = [], []
    for batch in _loader(dataset, batch_size, 0):
        inputs = batch['inputs']
        inputs = inputs[0] if isinstance(inputs, list | tuple) else inputs
        pixels.append(inputs.flatten(1).float().numpy() / 255.0)
        labels += _labels(batch['data_samples'])
    return _readable(dataset, np.concatenate(pixels), np.array(labels, dtype=np.int64))
