"""Frozen features of a data set."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.dist import all_gather, get_rank, get_world_size
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from mmselfsup_graft.errors import DataError
from mmselfsup_graft.evaluation.protocols.linear import Batch, LinearProtocol, batch_shares
from mmselfsup_graft.evaluation.protocols.logistic import FeatureSet
from mmselfsup_graft.registry import MODELS
from mmselfsup_graft.utils.progress import Progress

from .backbones import Pixels
from .pooling import check_features, encode_images, feature_parts

_NO_LABEL = -1
_UNLABELLED = 'evaluation needs labeled images: put them into one sub-folder per class'


class Embedded(NamedTuple):
    """Features of images.

    Attributes:
        features: Name of the feature -> [N, D] float32.
        labels: [N] int64; None where images have none.
        indices: [N] int64, place of each image in the data set; images that cannot be read are left out.
    """

    features: dict[str, np.ndarray]
    labels: np.ndarray | None
    indices: np.ndarray

    def labeled(self, name: str) -> FeatureSet:
        """One of the features with the labels.

        Raises:
            DataError: If the images have no labels.
        """
        if self.labels is None:
            raise DataError(_UNLABELLED)
        return self.features[name], self.labels

    def non_finite(self) -> int:
        """Number of images with NaN or infinity in a feature."""
        wrong = [~np.isfinite(values).all(1) for values in self.features.values()]
        return int(np.any(wrong, axis=0).sum())


def device_of(backbone: nn.Module) -> torch.device:
    """Device of an encoder; the CPU if it has no parameters."""
    return next(backbone.parameters(), torch.empty(0)).device


@torch.no_grad()
def encode_batch(
    backbone: nn.Module, preprocessor: nn.Module, batch: dict, parts: Sequence[str]
) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Features [B, D] float32 by name, and labels of a collated batch; -1 means no label.

    Args:
        backbone: Encoder in eval mode.
        preprocessor: Normalizes the batch on the device.
        batch: Packed samples.
        parts: See :func:`encode_images`.
    """
    batch = preprocessor(batch, False)
    inputs = batch['inputs']
    inputs = inputs[0] if isinstance(inputs, list | tuple) else inputs
    labels = [int(each.gt_label) if 'gt_label' in each else _NO_LABEL for each in batch['data_samples']]
    return encode_images(backbone, inputs, parts), labels


def embed(
    backbone: nn.Module,
    preprocessor: nn.Module,
    dataset: Any,
    features: Sequence[str] | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    indices: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Embedded:
    """Features of all samples of a data set, labeled or not, by one forward pass per image.

    Over ranks: each process takes a contiguous share, all get the complete result in the order of the data set.

    Args:
        backbone: Encoder in eval mode.
        preprocessor: Normalizes a collated batch on the device.
        dataset: Packed samples.
        features: Of :data:`FEATURES`, see :func:`encode_images`; None is the encoder's own feature.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
        indices: Only these samples; None takes all.
        progress: Counts batches; None makes one.

    Raises:
        ConfigError: If the encoder has no such feature.
        DataError: If there are fewer samples than processes.
    """
    names = check_features(backbone, features)
    parts = feature_parts(names)
    chosen = np.arange(len(dataset)) if indices is None else indices
    if len(chosen) < get_world_size():
        raise DataError(f'{len(chosen)} images cannot be split among {get_world_size()} processes; use fewer')
    share = np.array_split(chosen, get_world_size())[get_rank()]
    subset = dataset if len(share) == len(dataset) else Subset(dataset, share.tolist())
    preprocessor = preprocessor.to(device_of(backbone))
    rows: dict[str, list[torch.Tensor]] = {part: [] for part in parts}
    labels: list[int] = []
    loader = DataLoader(subset, batch_size=batch_size, num_workers=num_workers, collate_fn=default_collate)
    progress = progress or Progress('extracting features', len(loader))
    for batch in loader:
        encoded, truth = encode_batch(backbone, preprocessor, batch, parts)
        for part, values in encoded.items():
            rows[part].append(values.cpu())
        labels += truth
        progress.step()
    # an unreadable image was replaced by another one: its row is left out
    corrupt = getattr(dataset, 'corrupt_mask', np.zeros(len(dataset), dtype=bool))[share]
    readable = _gather(torch.from_numpy(~corrupt)).numpy()
    joined = {part: _gather(torch.cat(values)).numpy()[readable] for part, values in rows.items()}
    known = _gather(torch.tensor(labels, dtype=torch.int64)).numpy()[readable]
    found = {name: join_parts(joined, name) for name in names}
    return Embedded(found, None if (known == _NO_LABEL).any() else known, chosen[readable])


def join_parts(parts: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A feature [N, D] from its parts; ``both`` [N, 2 D] is the class token followed by the mean of the patches."""
    return np.hstack([parts['class_token'], parts['patch_mean']]) if name == 'both' else parts[name]


def extract_features(
    backbone: nn.Module,
    preprocessor: nn.Module,
    dataset: Any,
    batch_size: int = 256,
    num_workers: int = 0,
    feature: str | None = None,
) -> FeatureSet:
    """One feature of all samples of a labeled data set; see :func:`embed`.

    Args:
        backbone: See there.
        preprocessor: See there.
        dataset: See there.
        batch_size: See there.
        num_workers: See there.
        feature: Of :data:`FEATURES`; None is the encoder's own feature.

    Returns:
        Features [N, D] float32 and labels [N] int64, without the images that cannot be read.

    Raises:
        DataError: If samples have no labels, or there are fewer of them than processes.
    """
    (name,) = check_features(backbone, None if feature is None else [feature])
    if hasattr(dataset, 'labels') and dataset.labels() is None:  # checked before the work
        raise DataError(_UNLABELLED)
    return embed(backbone, preprocessor, dataset, [name], batch_size, num_workers).labeled(name)


def _gather(share: torch.Tensor) -> torch.Tensor:
    """Join the processes' shares [n, ...], whose lengths may differ by one, in the order of the processes."""
    if get_world_size() == 1:
        return share
    lengths = [int(each) for each in all_gather(torch.tensor(len(share)))]
    padded = share.new_zeros(max(lengths), *share.shape[1:])
    padded[: len(share)] = share
    return torch.cat([each[:length] for each, length in zip(all_gather(padded), lengths)])


def pixel_encoder() -> tuple[nn.Module, nn.Module]:
    """An encoder that returns the pixels, and its preprocessor."""
    return Pixels(), MODELS.build({'type': 'mmpretrain.SelfSupDataPreprocessor'})


def pixels_as_features(dataset: Dataset, batch_size: int = 256) -> FeatureSet:
    """The pixels of the evaluation crop in [0, 1]: [N, C * H * W] and labels [N]."""
    return extract_features(*pixel_encoder(), dataset, batch_size)


class AugmentedBatches(Sampler):
    """Batches for the linear sweep: in every epoch the frozen encoder encodes augmented images once for all heads.

    Args:
        backbone: Encoder in eval mode.
        preprocessor: Normalizes a collated batch on the device.
        dataset: Augmented, labeled training images; their seed and epoch are set, on which augmentations depend.
        indices: [N] samples to train on.
        protocol: Defines batch size and seed.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
        feature: Of :data:`FEATURES`; None is the encoder's own feature.

    Raises:
        ConfigError: If the encoder has no such feature.
    """

    def __init__(
        self,
        backbone: nn.Module,
        preprocessor: nn.Module,
        dataset: Any,
        indices: np.ndarray,
        protocol: LinearProtocol,
        batch_size: int = 256,
        num_workers: int = 0,
        feature: str | None = None,
    ) -> None:
        (self.feature,) = check_features(backbone, None if feature is None else [feature])
        self.backbone, self.preprocessor = backbone, preprocessor.to(device_of(backbone))
        self.dataset, self.indices, self.protocol, self.batch_size = dataset, indices, protocol, batch_size
        dataset.set_seed(protocol.seed)
        self._epoch = 0
        # loader batches are pieces of shares: equal results in eval mode, with less memory
        self.loader = DataLoader(
            dataset,
            batch_sampler=self,
            num_workers=num_workers,
            collate_fn=default_collate,
            persistent_workers=num_workers > 0,
        )

    def _shares(self) -> list[tuple[np.ndarray, int]]:
        order = (self.protocol.batch_size, self.protocol.seed, self._epoch, self.protocol.drop_last)
        return batch_shares(len(self.indices), *order)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the pieces of this process's shares, for the loader."""
        for share, _ in self._shares():
            for start in range(0, len(share), self.batch_size):
                yield self.indices[share[start : start + self.batch_size]].tolist()

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Yield the shares of an epoch."""
        self._epoch = epoch
        self.dataset.set_epoch(epoch)
        pieces, shares = iter(self.loader), self._shares()
        for number, (share, total) in enumerate(shares):
            count = -(-len(share) // self.batch_size)
            encoded = [self._encode(next(pieces)) for _ in range(count)]
            features = torch.cat([rows for rows, _ in encoded])
            labels = torch.tensor([label for _, truth in encoded for label in truth], device=features.device)
            yield Batch(features, labels, total, number / len(shares))

    def _encode(self, batch: dict) -> tuple[torch.Tensor, list[int]]:
        """Features [B, D] and labels of a collated batch."""
        parts = feature_parts([self.feature])
        encoded, labels = encode_batch(self.backbone, self.preprocessor, batch, parts)
        if _NO_LABEL in labels:
            raise DataError(_UNLABELLED)
        return torch.cat([encoded[part] for part in parts], dim=1), labels
