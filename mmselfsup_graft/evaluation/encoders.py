"""Features of images by the encoder of a config and a checkpoint, with or without labels."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from mmselfsup_graft.checkpoints import Traits, file_sha256
from mmselfsup_graft.downloads.http_fetch import Limits
from mmselfsup_graft.downloads.hub import hub_weights
from mmselfsup_graft.downloads.resolve import resolve_zoo
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.libraries.scopes import register_all_modules
from mmselfsup_graft.registry import DATASETS, MODELS

from .backbones import load_backbone
from .cache import FeatureCache
from .embedding.file_config import config_of_file
from .embedding.raw_images import Images, as_pixels, check_list
from .features import Embedded, device_of, embed, pixel_encoder
from .other_pipeline import folder_pipeline
from .pooling import check_features, default_feature, encode_images, feature_parts, has_class_token


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder with everything needed to embed images.

    Attributes:
        backbone: In eval mode, on the GPU if there is one.
        preprocessor: Normalizes a batch.
        cache: Keeps features.
        checkpoint_format: Format of the file, None for a random encoder or pixels.
        name: Name in messages.
        pipeline: Configs of the transforms that bring any image to its size.
        feature: Its own feature, of :data:`FEATURES`; None is that of its class, see :func:`default_feature`.
    """

    backbone: nn.Module
    preprocessor: nn.Module
    cache: FeatureCache
    checkpoint_format: str | None = None
    name: str = 'the encoder'
    pipeline: Sequence[dict] = ()
    feature: str | None = None

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | os.PathLike,
        config: Config | None = None,
        *,
        source: Mapping[str, Any] | None = None,
        block: int | None = None,
        size: tuple[int, int] | None = None,
        normalization: Mapping[str, Any] | None = None,
    ) -> 'Encoder':
        """The encoder of a file of any known format: ``Encoder.from_checkpoint(FILE)(images)``.

        Args:
            checkpoint: The file, or ``zoo:NAME``.
            config: Its config; None reads architecture, image size and normalization from the file, see
                :func:`.embedding.file_config.config_of_file`.
            source: ``branch``, ``format``, ``grid`` as in a graft.
            block: Take the feature after this number of blocks; None for the final feature.
            size: (H, W) of the images in pixels, instead of that of file or config.
            normalization: ``mean`` and ``std`` (0..255, a number per channel), instead of those of file or config.

        Raises:
            CheckpointError: If the file cannot be read or does not fit.
            ConfigError: If the image size, or the normalization of gray images, is not known.
        """
        register_all_modules()
        checkpoint = resolve_zoo(checkpoint)
        if config is None:
            config = config_of_file(checkpoint, source, size, normalization)
        else:
            changes: dict[str, Any] = {'image_size': list(size)} if size else {}
            section = {**(config.get('evaluation') or {})}
            section['source'] = {**(section.get('source') or {}), **(source or {})}
            if size:
                section.pop('test', None)  # its pipeline brings images to another size
            config = Config({**config.to_dict(), **changes, 'evaluation': section})
        return load_encoder(config, checkpoint, block, normalization=normalization)

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike, *, revision: str | None = None, limits: Limits | None = None, **options: Any
    ) -> 'Encoder':
        """The encoder of a repository of the Hugging Face hub, or of a folder with its layout.

        Takes repositories of :func:`mmselfsup_graft.push_to_hub`, and others whose ``model.safetensors`` is of a known
        format. No code of a repository is run.

        Args:
            source: ``user/name``, or a folder.
            revision: Branch, tag or commit; None is ``main``.
            limits: ``max_bytes`` is the size of the largest file that is taken.
            **options: ``block``, ``size``, ``normalization``, ``source`` of :meth:`from_checkpoint`.

        Raises:
            CheckpointError: If there is no such repository or folder, a file is missing, too large or damaged, or its
                encoder is not of a known format.
        """
        encoder = cls.from_checkpoint(hub_weights(source, revision, limits), **options)
        traits = getattr(encoder.backbone, 'checkpoint_traits', None)
        return replace(encoder, feature=traits.feature if traits else None, name=f'the encoder of {source}')

    @torch.no_grad()
    def __call__(self, images: Images, feature: str | None = None, batch_size: int = 256) -> torch.Tensor:
        """Features [N, D] float32 of images, on the CPU.

        Args:
            images: [N, C, H, W] raw pixels in 0..255 of the encoder's size; or files, Pillow's images or arrays (uint8
                [H, W] or [H, W, 3], RGB) of any size, which the encoder's transforms scale and crop.
            feature: Of :data:`FEATURES`; None is the encoder's own feature.
            batch_size: Images per forward pass.

        Raises:
            ConfigError: If the encoder has no such feature.
            DataError: If an image cannot be read, or there is none.
        """
        check_list(images)
        (name,) = self.check(None if feature is None else [feature])
        preprocessor = self.preprocessor.to(device_of(self.backbone))
        rows = []
        for start in range(0, len(images), batch_size):
            pixels = as_pixels(images[start : start + batch_size], self.pipeline)
            batch = preprocessor({'inputs': pixels, 'data_samples': None}, False)['inputs']
            found = encode_images(self.backbone, batch, feature_parts([name]))
            rows.append(torch.cat(list(found.values()), dim=1).cpu())
        if not rows:
            raise DataError('there is no image to embed')
        return torch.cat(rows)

    def check(self, features: Sequence[str] | None) -> tuple[str, ...]:
        """Names of the features; None means the encoder's own. See :func:`check_features`."""
        return check_features(self.backbone, (self.own_feature(),) if features is None else features)

    def own_feature(self) -> str:
        """The feature that is the encoder's output, see :func:`default_feature`."""
        return self.feature or default_feature(self.backbone)

    def has_class_token(self) -> bool:
        """Whether there is a class token."""
        return has_class_token(self.backbone)


def load_encoder(
    cfg: Config,
    checkpoint: str | os.PathLike | None,
    block: int | None = None,
    cache: str | os.PathLike | None = None,
    seed: int = 0,
    normalization: Mapping[str, Any] | None = None,
) -> Encoder:
    """The encoder of a config with the weights of a checkpoint of any known format.

    Args:
        cfg: Holds ``model.backbone`` and the preprocessor.
        checkpoint: File or ``zoo:NAME``; None for a random encoder.
        block: Take the feature after this number of blocks; None for the final feature.
        cache: Folder for cached features; None disables the cache.
        seed: Of a random encoder.
        normalization: ``mean`` and ``std``, instead of those of file and config.
    """
    checkpoint = None if checkpoint is None else resolve_zoo(checkpoint)
    options = source_options(cfg)
    source = None if checkpoint is None else {'checkpoint': str(checkpoint), **options}
    backbone: Any = load_backbone(cfg.model.backbone, source, seed, block)
    found = backbone.checkpoint_format
    settings, notes = _stored_preprocessing(preprocessing(cfg), backbone.checkpoint_traits)
    if normalization is not None:
        settings, notes = {**settings, **normalization}, []
    for note in [*backbone.checkpoint_notes, *notes]:
        print_log(f'{checkpoint}: {note}', logger='current', level=logging.WARNING)
    weights = f'seed {seed}' if checkpoint is None else file_sha256(checkpoint)
    origin = {'weights': weights, 'backbone': cfg.model.backbone, 'block': block, 'preprocessor': settings}
    origin |= {'source': options} if options else {}
    backbone = backbone.cuda() if torch.cuda.is_available() else backbone
    name = f'a random encoder, seed {seed}' if checkpoint is None else f'the encoder of {checkpoint}'
    preprocessor = MODELS.build({'type': 'mmpretrain.SelfSupDataPreprocessor', **settings})
    return Encoder(backbone, preprocessor, FeatureCache(cache, origin), found, name, _pipeline(cfg, backbone))


def _pipeline(cfg: Config, backbone: Any) -> Sequence[dict]:
    """Transforms of images of any size; none if the size of the encoder's images is not known."""
    try:
        return folder_pipeline(cfg, backbone)
    except ConfigError:
        return ()


def source_options(cfg: Config) -> dict[str, Any]:
    """Options for reading the checkpoint, ``evaluation.source``: keys of a graft source (``branch``, ``grid``, ...)."""
    section = cfg.get('evaluation') or {}
    return dict(section.get('source') or {})


def _stored_preprocessing(settings: dict[str, Any], traits: Traits | None) -> tuple[dict[str, Any], list[str]]:
    """The normalization that the encoder was trained with, if its file states it, else the config's."""
    if traits is None or traits.mean is None or traits.std is None:
        return settings, []
    told = {'mean': list(traits.mean), 'std': list(traits.std)}
    own = {key: list(settings.get(key) or []) for key in told}
    if all(len(own[k]) == len(told[k]) and all(abs(a - b) < 1e-3 for a, b in zip(own[k], told[k])) for k in told):
        return settings, []
    note = (
        f'warning: its images were normalized by mean={told["mean"]}, std={told["std"]}, this config has '
        f'mean={own["mean"]}, std={own["std"]}; the values of the checkpoint are used'
    )
    return {**settings, **told}, [note]


def raw_pixels() -> Encoder:
    """Placeholder for an encoder: the raw pixels."""
    return Encoder(*pixel_encoder(), FeatureCache(None, {}), name='raw pixels')


def preprocessor_of(cfg: Config) -> nn.Module:
    """The normalization that a config trains with."""
    return MODELS.build({'type': 'mmpretrain.SelfSupDataPreprocessor', **preprocessing(cfg)})


def preprocessing(cfg: Config) -> dict[str, Any]:
    """Config of the preprocessor: in the model, else at the top of the config, as in mmengine."""
    return cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}


def embed_images(
    encoder: Encoder,
    data: dict,
    features: Sequence[str] | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    dataset: Any = None,
) -> Embedded:
    """Features of the images of a data set, by one forward pass per image, or from the encoder's cache.

    Args:
        encoder: Result of :func:`load_encoder`.
        data: Config of the data set, labeled or not.
        features: Of :data:`FEATURES`; None is the encoder's own feature.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
        dataset: The data set, if it is built already.

    Raises:
        ConfigError: If the encoder has no such feature.
    """
    names = encoder.check(features)
    dataset = DATASETS.build(data) if dataset is None else dataset
    extract = partial(_extract, encoder, batch_size, num_workers)
    return encoder.cache.get(data, dataset, names, extract)


def _extract(encoder: Encoder, batch_size: int, num_workers: int, dataset: Any, features: Sequence[str]) -> Embedded:
    return embed(encoder.backbone, encoder.preprocessor, dataset, features, batch_size, num_workers)
