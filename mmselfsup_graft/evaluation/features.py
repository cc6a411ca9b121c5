"""Frozen features of a data set."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import default_collate
from mmengine.dist import all_gather, get_rank, get_world_size
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from mmselfsup_graft.errors import DataError
from mmselfsup_graft.registry import MODELS

from .backbones import Pixels, pooled
from .linear import Batch, LinearProtocol, batch_shares
from .logistic import FeatureSet
from .progress import Progress


def _labels(samples: Sequence) -> list[int]:
    if any('gt_label' not in sample for sample in samples):
        raise DataError('evaluation needs labelled images: put them into one sub-folder per class')
    return [int(sample.gt_label) for sample in samples]


def device_of(backbone: nn.Module) -> torch.device:
    """Where an encoder lives; one without parameters is on the CPU."""
    return next(backbone.parameters(), torch.empty(0)).device


@torch.no_grad()
def encode_batch(backbone: nn.Module, preprocessor: nn.Module, batch: dict) -> tuple[torch.Tensor, list[int]]:
    """Features [B, D] float32 and labels of a collated batch.

    Raises:
        DataError: If samples carry no labels.
    """
    batch = preprocessor(batch, False)
    inputs = batch['inputs']
    inputs = inputs[0] if isinstance(inputs, list | tuple) else inputs
    return pooled(backbone(inputs)[-1].float()), _labels(batch['data_samples'])


def extract_features(
    backbone: nn.Module, preprocessor: nn.Module, dataset: Any, batch_size: int = 256, num_workers: int = 0
) -> FeatureSet:
    """Features of all samples of a data set.

    Over ranks: each process takes a contiguous share, all get the whole in the order of the data set.

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
        DataError: If samples carry no labels, or there are fewer of them than processes.
    """
    if len(dataset) < get_world_size():
        raise DataError(f'{len(dataset)} images cannot be shared by {get_world_size()} processes; use fewer')
    share = np.array_split(np.arange(len(dataset)), get_world_size())[get_rank()]
    subset = dataset if get_world_size() == 1 else Subset(dataset, share.tolist())
    preprocessor = preprocessor.to(device_of(backbone))
    features: list[torch.Tensor] = []
    labels: list[int] = []
    loader = DataLoader(subset, batch_size=batch_size, num_workers=num_workers, collate_fn=default_collate)
    progress = Progress('extracting features', len(loader))
    for batch in loader:
        rows, truth = encode_batch(backbone, preprocessor, batch)
        features.append(rows.cpu())
        labels += truth
        progress.step()
    # in the place of an unreadable image the data set gave another one: its row is left out
    corrupt = getattr(dataset, 'corrupt_mask', np.zeros(len(dataset), dtype=bool))[share]
    readable = _gather(torch.from_numpy(~corrupt)).numpy()
    joined = _gather(torch.cat(features)).numpy()
    return joined[readable], _gather(torch.tensor(labels, dtype=torch.int64)).numpy()[readable]


def _gather(share: torch.Tensor) -> torch.Tensor:
    """Join the processes' shares [n, ...], whose lengths may differ by one, in the order of the processes."""
    if get_world_size() == 1:
        return share
    lengths = [int(each) for each in all_gather(torch.tensor(len(share)))]
    padded = share.new_zeros(max(lengths), *share.shape[1:])
    padded[: len(share)] = share
    return torch.cat([each[:length] for each, length in zip(all_gather(padded), lengths)])


def pixel_encoder() -> tuple[nn.Module, nn.Module]:
    """An encoder that passes pixels on, and the preprocessor that goes with it."""
    return Pixels(), MODELS.build({'type': 'mmpretrain.SelfSupDataPreprocessor'})


def pixels_as_features(dataset: Dataset, batch_size: int = 256) -> FeatureSet:
    """The pixels of the evaluation crop themselves, in [0, 1]: [N, C * H * W] and labels [N]."""
    return extract_features(*pixel_encoder(), dataset, batch_size)


class AugmentedBatches(Sampler):
    """Batches for the linear sweep: every epoch the frozen encoder sees augmented images once, for all heads.

    Args:
        backbone: Encoder in eval mode.
        preprocessor: Normalises a collated batch on the device.
        dataset: Augmented, labelled training images; told seed and epoch, on which augmentations depend.
        indices: [N] samples to train on.
        protocol: Says batch size and seed.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
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
    ) -> None:
        self.backbone, self.preprocessor = backbone, preprocessor.to(device_of(backbone))
        self.dataset, self.indices, self.protocol, self.batch_size = dataset, indices, protocol, batch_size
        dataset.set_seed(protocol.seed)
        self._epoch = 0
        # loader batches are pieces of shares: an encoder in eval mode does not mind, and memory stays small
        self.loader = DataLoader(
            dataset,
            batch_sampler=self,
            num_workers=num_workers,
            collate_fn=default_collate,
            persistent_workers=num_workers > 0,
        )

    def _shares(self) -> Iterator[tuple[np.ndarray, int]]:
        return batch_shares(len(self.indices), self.protocol.batch_size, self.protocol.seed, self._epoch)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the pieces of this process's shares, for the loader."""
        for share, _ in self._shares():
            for start in range(0, len(share), self.batch_size):
                yield self.indices[share[start : start + self.batch_size]].tolist()

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Yield the shares of an epoch."""
        self._epoch = epoch
        self.dataset.set_epoch(epoch)
        pieces = iter(self.loader)
        for share, total in self._shares():
            count = -(-len(share) // self.batch_size)
            encoded = [encode_batch(self.backbone, self.preprocessor, next(pieces)) for _ in range(count)]
            features = torch.cat([rows for rows, _ in encoded])
            labels = torch.tensor([label for _, truth in encoded for label in truth], device=features.device)
            yield Batch(features, labels, total)
