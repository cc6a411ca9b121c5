"""Scoring frozen encoders by the protocols of a config's ``evaluation`` section."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import is_main_process

from mmselfsup_graft.datasets import SelfSupDataset
from mmselfsup_graft.datasets.classes import share_classes
from mmselfsup_graft.datasets.skipped_files import log_once
from mmselfsup_graft.errors import ConfigError, DataError, NonFiniteError
from mmselfsup_graft.evaluation.protocols.linear import LinearProtocol, linear_result
from mmselfsup_graft.evaluation.protocols.logistic import FeatureSet
from mmselfsup_graft.evaluation.protocols.names import Protocol, make_protocol, score_features
from mmselfsup_graft.registry import DATASETS, PROTOCOLS

from .cache import samples_sha256
from .encoders import Encoder, embed_images, load_encoder, raw_pixels
from .features import AugmentedBatches, Embedded
from .pooling import FEATURES

_DATA = ('train', 'test', 'augmented')


@dataclass(frozen=True)
class Evaluation:
    """The ``evaluation`` section of a config, read.

    Attributes:
        data: Configs of the data sets by name: train, test and, if there is one, augmented.
        protocols: Protocols in the order of tables.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
        feature: The scored feature of an encoder, one of :data:`FEATURES`; None is the encoder's own feature.
        block: Take the feature after this number of blocks; None for the final feature.
    """

    data: dict[str, dict]
    protocols: dict[str, Protocol]
    batch_size: int = 256
    num_workers: int = 0
    feature: str | None = None
    block: int | None = None


@dataclass(frozen=True)
class Scores:
    """Results of one encoder.

    Attributes:
        results: Protocol name -> its result; empty on all processes but the first.
        left_out: Unreadable images that were left out, of ``train`` and ``test``.
        images: Number of scored images, of ``train`` and ``test``.
        samples: Hash of the list of samples of ``train`` and ``test``.
        checkpoint_format: Format of the file, None for a random encoder or pixels.
        feature: The scored feature, of :data:`FEATURES`.
        confusion: Protocol name -> confusion matrix of the test images, of linear evaluation.
        classes: Names of the classes.
    """

    results: dict[str, dict[Any, Any]]
    left_out: dict[str, int]
    images: dict[str, int]
    samples: dict[str, str]
    checkpoint_format: str | None = None
    feature: str = 'class_token'
    confusion: dict[str, np.ndarray] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None


def read_evaluation(cfg: Config, names: Sequence[str] | None = None) -> Evaluation:
    """Read data sets and protocols from the config's ``evaluation`` section.

    Args:
        cfg: A config.
        names: Only these protocols; None takes all.

    Raises:
        ConfigError: If the config has no such section, it holds unknown keys or values, or lacks a requested protocol.
    """
    if cfg.get('evaluation') is None:
        raise ConfigError('this config has no `evaluation` section; see configs/_base_/evaluation/')
    section = Config({'section': cfg.evaluation}).section.to_dict()
    known_keys = [*_DATA, 'loader', 'feature', 'block', 'source', *PROTOCOLS.module_dict]
    unknown = sorted(set(section) - set(known_keys))
    if unknown:
        known = ', '.join(known_keys)
        raise ConfigError(f'evaluation: unknown key {unknown[0]!r}; it takes {known}')
    missing = [name for name in ('train', 'test') if name not in section]
    if missing:
        raise ConfigError(f'evaluation.{missing[0]} is missing; give the config of a labeled data set')
    protocols = {
        name: make_protocol(name, section[name], f'evaluation.{name}')
        for name in PROTOCOLS.module_dict
        if name in section
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
    feature = section.get('feature')
    if feature is not None and feature not in FEATURES:
        raise ConfigError(f'evaluation.feature is {feature!r}; choose from {", ".join(FEATURES)}')
    block = section.get('block')
    if block is not None and (type(block) is not int or block < 1):
        raise ConfigError(f'evaluation.block is {block!r}; it must be the number of a block, counted from 1')
    loader = section.get('loader', {})
    data = {name: section[name] for name in _DATA if name in section}
    return Evaluation(data, protocols, **loader, feature=feature, block=block)


def score_checkpoint(
    cfg: Config,
    checkpoint: str | os.PathLike | None,
    evaluation: Evaluation | None = None,
    block: int | None = None,
    cache: str | os.PathLike | None = None,
    seed: int = 0,
) -> Scores:
    """Score the frozen encoder of a checkpoint (any known format) on the config's evaluation data.

    Over ranks: all processes take part in extraction and in the linear sweep; other protocols run on the first.

    Args:
        cfg: Holds ``model.backbone``, the preprocessor and ``evaluation``.
        checkpoint: File; None for a random encoder.
        evaluation: Result of :func:`read_evaluation`; None reads it here.
        block: Score the feature after this number of blocks; None takes that of the evaluation.
        cache: Folder for cached features; None disables the cache.
        seed: Of a random encoder.
    """
    evaluation = evaluation or read_evaluation(cfg)
    encoder = load_encoder(cfg, checkpoint, evaluation.block if block is None else block, cache, seed)
    asked = None if evaluation.feature is None else [evaluation.feature]
    (scores,) = score_encoder(encoder, evaluation, asked).values()
    return scores


def score_pixels(evaluation: Evaluation, datasets: dict[str, SelfSupDataset] | None = None) -> Scores:
    """Score raw pixels, the baseline without an encoder; see :func:`score_encoder`."""
    (scores,) = score_encoder(raw_pixels(), evaluation, None, datasets).values()
    return scores


def evaluation_sets(evaluation: Evaluation) -> dict[str, SelfSupDataset]:
    """The data sets ``train`` and ``test``, built; labels of both are numbered by the classes of ``train``.

    Raises:
        DataError: If ``test`` has images of a class that is not in ``train``.
    """
    datasets = {name: DATASETS.build(evaluation.data[name]) for name in ('train', 'test')}
    share_classes(datasets['train'], {'evaluation.test': datasets['test']})
    for name, dataset in datasets.items():
        log_once(f'evaluation.{name}: {dataset.describe()}', logging.INFO)
    return datasets


def score_encoder(
    encoder: Encoder,
    evaluation: Evaluation,
    features: Sequence[str] | None = None,
    datasets: dict[str, SelfSupDataset] | None = None,
) -> dict[str, Scores]:
    """Extract features once and score each of them by every protocol.

    Args:
        encoder: Module, preprocessor and cache.
        evaluation: Data and protocols.
        features: Of :data:`FEATURES`; None is the encoder's own feature.
        datasets: Result of :func:`evaluation_sets`, shared among encoders; None builds them here.

    Returns:
        Name of the feature -> scores.

    Raises:
        ConfigError: If the encoder has no such feature.
        DataError: If images have no labels, or ``test`` a class that is not in ``train``. An error that only
            occurs on the first process is raised there, after all shared work.
        NonFiniteError: If features hold NaN or infinity; on all processes.
    """
    names = encoder.check(features)
    datasets = datasets or evaluation_sets(evaluation)
    share_classes(datasets['train'], {'evaluation.test': datasets['test']})
    labels = {name: labels_of(dataset) for name, dataset in datasets.items()}
    loading = {'batch_size': evaluation.batch_size, 'num_workers': evaluation.num_workers}
    embedded = {}
    for name, dataset in datasets.items():
        if name == 'test' or _needs_train_features(evaluation):
            embedded[name] = embed_images(encoder, evaluation.data[name], names, **loading, dataset=dataset)
        else:
            empty = np.empty((len(dataset), 0), dtype=np.float32)
            embedded[name] = Embedded(dict.fromkeys(names, empty), labels[name], np.arange(len(dataset)))
    _check_finite(encoder, embedded)
    for name, each in embedded.items():
        _log_lost_classes(name, datasets[name], labels[name][each.indices])
    samples = {name: samples_sha256(dataset) for name, dataset in datasets.items()}
    images = {name: len(each.indices) for name, each in embedded.items()}
    left_out = {name: len(dataset) - images[name] for name, dataset in datasets.items()}
    scores, failed = {}, None
    for feature in names:
        sets = {name: each.labeled(feature) for name, each in embedded.items()}
        try:
            results, matrices = _score_sets(encoder, evaluation, feature, sets, datasets['train'])
        except DataError as error:  # others may not have it, and would wait in the next sweep
            failed = failed or error
            continue
        about = (left_out, images, samples, encoder.checkpoint_format, feature)
        scores[feature] = Scores(results, *about, matrices, datasets['train'].classes)
    if failed is not None:
        raise failed
    return scores


def _log_lost_classes(name: str, dataset: SelfSupDataset, read: np.ndarray) -> None:
    """Log the classes whose images are all unreadable."""
    lost = sorted(set(np.unique(labels_of(dataset)).tolist()) - set(np.unique(read).tolist()))
    if lost:
        names = dataset.classes or ()
        text = ', '.join(names[label] if label < len(names) else str(label) for label in lost[:10])
        log_once(f'evaluation.{name}: no image of {len(lost)} classes can be read ({text}); they are not scored')


def _check_finite(encoder: Encoder, embedded: Mapping[str, Embedded]) -> None:
    for name, each in embedded.items():
        wrong = each.non_finite()
        if wrong:
            raise NonFiniteError(
                f'{encoder.name} gives NaN or infinite features for {wrong} of {len(each.indices)} {name} images; '
                'its training diverged: check its losses, and train it again with a lower learning rate'
            )


def _score_sets(
    encoder: Encoder, evaluation: Evaluation, feature: str, sets: dict[str, FeatureSet], train: SelfSupDataset
) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
    """Results and confusion matrices of all protocols for one feature; empty on all processes but the first."""
    results: dict[str, dict] = {name: {} for name in evaluation.protocols}
    matrices = {}
    # shared work comes first: otherwise the other processes would wait for the solvers and time out
    shared_first = sorted(evaluation.protocols.items(), key=lambda item: not isinstance(item[1], LinearProtocol))
    for name, protocol in shared_first:
        if isinstance(protocol, LinearProtocol):
            source = _augmented(encoder, evaluation, feature, protocol, train, sets['train'][1])
            device = 'cuda' if torch.cuda.is_available() else 'cpu'
            results[name], matrix = linear_result(sets['train'], sets['test'], protocol, source, device)
            if matrix is not None:
                matrices[name] = matrix
        elif is_main_process():
            results[name] = score_features(sets['train'], sets['test'], protocol)
    return (results, matrices) if is_main_process() else ({}, {})


def _needs_train_features(evaluation: Evaluation) -> bool:
    """False for a sweep on augmented images with selection on the test set, which extracts its own in every epoch."""
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
        raise DataError(
            f'evaluation needs labeled images: put them into one sub-folder per class. This data set: '
            f'{dataset.describe()}'
        )
    return labels


def _augmented(
    encoder: Encoder,
    evaluation: Evaluation,
    feature: str,
    protocol: LinearProtocol,
    plain: SelfSupDataset,
    labels: np.ndarray,
) -> Callable[[np.ndarray], AugmentedBatches] | None:
    """Source of augmented batches, if the sweep needs one, from indices of the training images.

    Raises:
        DataError: If the augmented images are not those of ``evaluation.train``, or some could not be read and a part
            is held out.
    """
    if not protocol.augment:
        return None
    dataset = DATASETS.build(evaluation.data['augmented'])
    share_classes(plain, {'evaluation.augmented': dataset})
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
        loading = (evaluation.batch_size, evaluation.num_workers)
        return AugmentedBatches(encoder.backbone, encoder.preprocessor, dataset, index, protocol, *loading, feature)

    return source
