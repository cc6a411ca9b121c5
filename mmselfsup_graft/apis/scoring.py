"""Scoring frozen encoders by the protocols of a config's ``evaluation`` section."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from torch import nn

from mmselfsup_graft.checkpoints import file_sha256
from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation import (
    PROTOCOLS,
    AugmentedBatches,
    FeatureCache,
    LinearProtocol,
    Protocol,
    extract_features,
    linear_accuracy,
    load_backbone,
    make_protocol,
    pixel_encoder,
    samples_sha256,
    score_features,
)
from mmselfsup_graft.registry import DATASETS, MODELS

_DATA = ('train', 'test', 'augmented')


@dataclass(frozen=True)
class Evaluation:
    """The ``evaluation`` section of a config, read.

    Attributes:
        data: Configs of the data sets by name: train, test and, if there is one, augmented.
        protocols: What to score by, in the order of tables.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
    """

    data: dict[str, dict]
    protocols: dict[str, Protocol]
    batch_size: int = 256
    num_workers: int = 0


@dataclass(frozen=True)
class Scores:
    """Results of one encoder.

    Attributes:
        results: Protocol name -> what it returned; empty on all processes but the first.
        left_out: Unreadable images that were left out, of ``train`` and ``test``.
        images: Images that took part, of ``train`` and ``test``.
        samples: Hash of the list of samples of ``train`` and ``test``.
        checkpoint_format: Format of the file, None for a random encoder or pixels.
    """

    results: dict[str, dict[Any, Any]]
    left_out: dict[str, int]
    images: dict[str, int]
    samples: dict[str, str]
    checkpoint_format: str | None = None


def read_evaluation(cfg: Config, names: Sequence[str] | None = None) -> Evaluation:
    """Read data sets and protocols from the config's ``evaluation`` section.

    Args:
        cfg: A config.
        names: Only these protocols; None takes all.

    Raises:
        ConfigError: If the config has no such section, it holds unknown keys or values, or lacks what is asked for.
    """
    if cfg.get('evaluation') is None:
        raise ConfigError('this config has no `evaluation` section; see configs/_base_/evaluation/')
    section = Config({'section': cfg.evaluation}).section.to_dict()
    unknown = sorted(set(section) - {*_DATA, 'loader', *PROTOCOLS})
    if unknown:
        known = ', '.join([*_DATA, 'loader', *PROTOCOLS])
        raise ConfigError(f'evaluation: unknown key {unknown[0]!r}; it takes {known}')
    missing = [name for name in ('train', 'test') if name not in section]
    if missing:
        raise ConfigError(f'evaluation.{missing[0]} is missing; give the config of a labelled data set')
    protocols = {
        name: make_protocol(name, section[name], f'evaluation.{name}') for name in PROTOCOLS if name in section
    }
    if names is not None:
        lacking = [name for name in names if name not in protocols]
        if lacking:
            raise ConfigError(
                f'protocol {lacking[0]!r} is not in the evaluation section, which has {", ".join(protocols) or "none"}'
            )
        protocols = {name: protocol for name, protocol in protocols.items() if name in names}
    linear = protocols.get('linear')
    if isinstance(linear, LinearProtocol) and linear.augment and 'augmented' not in section:
        raise ConfigError(
            'evaluation.linear trains on augmented images: give evaluation.augmented, '
            'or set evaluation.linear.augment=False to train on the features of evaluation.train'
        )
    loader = section.get('loader', {})
    return Evaluation({name: section[name] for name in _DATA if name in section}, protocols, **loader)


def preprocessor_of(cfg: Config) -> nn.Module:
    """The normalisation that a config trains with."""
    return MODELS.build({'type': 'mmpretrain.SelfSupDataPreprocessor', **preprocessing(cfg)})


def preprocessing(cfg: Config) -> dict[str, Any]:
    """Where mmengine looks for the preprocessor: in the model, else at the top of the config."""
    return cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}


def score_checkpoint(
    cfg: Config,
    checkpoint: str | os.PathLike | None,
    evaluation: Evaluation | None = None,
    block: int | None = None,
    cache: str | os.PathLike | None = None,
    seed: int = 0,
) -> Scores:
    """Score the frozen encoder of a checkpoint (any known format) on the config's evaluation data.

    Over ranks: all take part in extraction and in the linear sweep; the other protocols run on the first.

    Args:
        cfg: Holds ``model.backbone``, the preprocessor and ``evaluation``.
        checkpoint: File; None for a random encoder.
        evaluation: What :func:`read_evaluation` gave; None reads it here.
        block: Score the feature after so many blocks; None for the final feature.
        cache: Folder to keep features in; None keeps none.
        seed: Of a random encoder.
    """
    evaluation = evaluation or read_evaluation(cfg)
    backbone = load_backbone(cfg.model.backbone, checkpoint, seed, block)
    found: Any = backbone.checkpoint_format
    backbone = backbone.cuda() if torch.cuda.is_available() else backbone
    weights = f'seed {seed}' if checkpoint is None else file_sha256(checkpoint)
    origin = {'weights': weights, 'backbone': cfg.model.backbone, 'block': block, 'preprocessor': preprocessing(cfg)}
    return score_encoder((backbone, preprocessor_of(cfg)), evaluation, FeatureCache(cache, origin), found)


def evaluate_checkpoint(cfg: Config, checkpoint: str | os.PathLike | None) -> dict[str, dict]:
    """Results of all protocols of the config for one checkpoint; see :func:`score_checkpoint`."""
    return score_checkpoint(cfg, checkpoint).results


def score_pixels(evaluation: Evaluation) -> Scores:
    """Score raw pixels: what is there before any encoder."""
    return score_encoder(pixel_encoder(), evaluation, FeatureCache(None, {}))


def score_encoder(
    encoder: tuple[nn.Module, nn.Module], evaluation: Evaluation, cache: FeatureCache, found: str | None = None
) -> Scores:
    """Extract features once and score them by every protocol.

    Args:
        encoder: Module and preprocessor.
        evaluation: Data and protocols.
        cache: Keeps features.
        found: Format of the checkpoint.
    """
    extract = partial(extract_features, *encoder, batch_size=evaluation.batch_size, num_workers=evaluation.num_workers)
    datasets = {name: DATASETS.build(evaluation.data[name]) for name in ('train', 'test')}
    sizes = {name: len(dataset) for name, dataset in datasets.items()}
    samples = {name: samples_sha256(dataset) for name, dataset in datasets.items()}
    sets = {}
    for name, dataset in datasets.items():
        if name == 'test' or _needs_train_features(evaluation):
            sets[name] = cache.get(evaluation.data[name], dataset, extract)
        else:
            sets[name] = np.empty((len(dataset), 0), dtype=np.float32), labels_of(dataset)
    results: dict[str, dict] = {name: {} for name in evaluation.protocols}
    # what all processes share comes first: they would wait for the first one's solvers, and time out
    shared_first = sorted(evaluation.protocols.items(), key=lambda item: not isinstance(item[1], LinearProtocol))
    for name, protocol in shared_first:
        if isinstance(protocol, LinearProtocol):
            source = _augmented(encoder, evaluation, protocol, datasets['train'], sets['train'][1])
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
            result = linear_accuracy(sets['train'], sets['test'], protocol, source, device)
            results[name] = result
        elif is_main_process():
            results[name] = score_features(sets['train'], sets['test'], protocol)
    images = {name: len(data[1]) for name, data in sets.items()}
    left_out = {name: sizes[name] - images[name] for name in sizes}
    return Scores(results if is_main_process() else {}, left_out, images, samples, found)


def _needs_train_features(evaluation: Evaluation) -> bool:
    """Not for a sweep on augmented images that selects on the test set: it extracts its own in every epoch."""
    return not all(
        isinstance(protocol, LinearProtocol) and protocol.augment and protocol.selection == 'test'
        for protocol in evaluation.protocols.values()
    )


def labels_of(dataset: SelfSupDataset) -> np.ndarray:
    """Labels [N] of a data set.

    Raises:
        DataError: If it has none.
    """
    labels = dataset.labels()
    if labels is None:
        raise DataError('evaluation needs labelled images: put them into one sub-folder per class')
    return labels


def _augmented(
    encoder: tuple[nn.Module, nn.Module],
    evaluation: Evaluation,
    protocol: LinearProtocol,
    plain: SelfSupDataset,
    labels: np.ndarray,
) -> Callable[[np.ndarray], AugmentedBatches] | None:
    """Source of augmented batches, if the sweep wants one, from indices of the training images.

    Raises:
        DataError: If the augmented images are not those of ``evaluation.train``, or some could not be read and a part
            shall be held out.
    """
    if not protocol.augment:
        return None
    dataset = DATASETS.build(evaluation.data['augmented'])
    if not np.array_equal(labels_of(dataset), labels_of(plain)):
        raise DataError(
            f'evaluation.augmented ({len(dataset)} images) must hold the images of evaluation.train ({len(plain)}) in '
            'the same order; give both the same images, or set evaluation.linear.augment=False'
        )
    if protocol.selection == 'holdout' and len(labels) < len(plain):
        raise DataError(
            f'{len(plain) - len(labels)} training images cannot be read; replace or remove them to hold out'
        )

    def source(kept: np.ndarray) -> AugmentedBatches:
        index = kept if protocol.selection == 'holdout' else np.arange(len(dataset))
        return AugmentedBatches(*encoder, dataset, index, protocol, evaluation.batch_size, evaluation.num_workers)

    return source
