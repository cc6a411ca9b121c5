"""The encoder or classifier of a checkpoint that is exported, with what its outputs are."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmselfsup_graft.checkpoints import file_sha256, read_checkpoint
from mmselfsup_graft.checkpoints.conversion.classifier_head import FEATURES, Classifier, read_classifier
from mmselfsup_graft.checkpoints.conversion.convert_checkpoint import Conversion, convert
from mmselfsup_graft.downloads.resolve import resolve_zoo
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.evaluation.embedding.file_config import config_of_file
from mmselfsup_graft.evaluation.encoders import Encoder, load_encoder
from mmselfsup_graft.evaluation.pooling import encode_images
from mmselfsup_graft.libraries.scopes import register_all_modules


@dataclass(frozen=True)
class SourceModel:
    """A checkpoint that is exported.

    Attributes:
        path: The file.
        sha256: Its hash.
        content: What :func:`read_checkpoint` gives.
        options: ``branch``, ``format``, ``grid`` as in a graft.
        encoder: Its encoder.
        feature: ``class_token`` or ``patch_mean``, the output of the encoder, which a classifier takes.
        size: (H, W) of the images in pixels.
        mean: Subtracted from the pixels, 0..255, per channel.
        std: Divided by, likewise.
        assumed: Whether the normalization is assumed, because the file does not state it.
        classifier: Its classifier, if that is exported too.
    """

    path: Path
    sha256: str
    content: dict[str, Any]
    options: dict[str, Any]
    encoder: Encoder
    feature: str
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    assumed: bool
    classifier: Classifier | None = None

    def converted(self, target: str) -> Conversion:
        """The encoder under the names of a target.

        Raises:
            CheckpointError: If the target does not take it.
        """
        return _convert(self.content, self.path, target, self.options)

    @torch.no_grad()
    def output(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, D], or logits [B, C] of a classifier, on the CPU.

        Args:
            images: [B, C, H, W], normalized.
        """
        features = encode_images(self.encoder.backbone, images, (self.feature,))[self.feature]
        if self.classifier is None:
            return features
        return F.linear(features, self.classifier.weight.float(), self.classifier.bias.float())


def source_model(
    checkpoint: str | os.PathLike,
    *,
    source: Mapping[str, Any] | None = None,
    feature: str | None = None,
    size: tuple[int, int] | None = None,
    normalization: Mapping[str, Any] | None = None,
    classifier: bool = False,
) -> SourceModel:
    """The encoder of a checkpoint for an export, on the CPU.

    Args:
        checkpoint: File of any known format, or ``zoo:NAME``.
        source: ``branch``, ``format``, ``grid`` as in a graft.
        feature: ``class_token`` or ``patch_mean``; None is what the file states, else the encoder's own.
        size: (H, W) of the images in pixels, instead of the file's.
        normalization: ``mean`` and ``std`` (0..255, a number per channel), instead of the file's.
        classifier: Whether its classifier is exported too.

    Raises:
        CheckpointError: If the file cannot be read, its encoder cannot be built, or it holds no classifier.
        ConfigError: If the feature is unknown, or the normalization of gray images is not known.
    """
    if feature is not None and feature not in FEATURES:
        raise ConfigError(f'feature is {feature!r}; choose from {", ".join(FEATURES)}')
    register_all_modules()
    path = Path(resolve_zoo(checkpoint))
    content = read_checkpoint(path)
    cfg = config_of_file(path, source, size, normalization)
    encoder = load_encoder(cfg, path, normalization=normalization)
    encoder.backbone.to('cpu')
    traits = getattr(encoder.backbone, 'checkpoint_traits', None)
    head = read_classifier(content, str(path)) if classifier else None
    if classifier and head is None:
        raise CheckpointError(f'{path} holds no classifier (head.fc), expected a file of tools/finetune.py')
    told = feature or (traits.feature if traits else None)
    if head is not None and told is None and encoder.has_class_token() and encoder.own_feature() == 'class_token':
        raise CheckpointError(f'{path} does not state which feature its classifier takes; give the feature')
    (feature,) = encoder.check([told or encoder.own_feature()])
    mean, std = _normalization(cfg)
    options = dict(source or {})
    done = _convert(content, path, 'mmpretrain', options)
    assumed = normalization is None and done.traits.mean is None and done.normalization is None
    return SourceModel(
        path, file_sha256(path), content, options, encoder, feature, tuple(cfg.image_size), mean, std, assumed, head
    )


def _normalization(cfg: Config) -> tuple[tuple[float, ...], tuple[float, ...]]:
    settings = cfg.model.data_preprocessor
    return tuple(map(float, settings.mean)), tuple(map(float, settings.std))


def _convert(content: dict[str, Any], path: Path, target: str, options: Mapping[str, Any]) -> Conversion:
    method = options.get('format') or 'auto'
    return convert(content, str(path), target, method, branch=options.get('branch'), grid=options.get('grid'))


def random_images(model: SourceModel, count: int, seed: int = 0) -> torch.Tensor:
    """Normalized random images [count, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, len(model.mean), *model.size, generator=generator)
