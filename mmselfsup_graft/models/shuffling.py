"""Shuffled batch norm of MoCo: groups of a batch with statistics of their own, and images that change groups."""

import logging

import torch
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.logging import print_log
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmselfsup_graft.utils.shared_random import shared_generator

from .joint_views import JointViews
from .losses import unit_rows
from .necks import PortableSyncBN

GROUPS = 8  # published runs had 8 GPUs


def project_groups(backbone: nn.Module, neck: nn.Module, images: torch.Tensor, groups: int) -> torch.Tensor:
    """Projections [B, D] of length 1 of images [B, C, H, W]; batch norm sees one of their consecutive groups."""
    return unit_rows(JointViews(backbone, neck).in_groups(lambda x: neck((backbone(x)[-1],))[0], images, groups))


def random_order(batch: torch.Tensor) -> torch.Tensor:
    """A permutation [W B] of the images of W processes with a batch [B, ...] each, the same on all of them."""
    order = torch.randperm(len(batch) * get_world_size(), generator=shared_generator())
    return order.to(batch.device, non_blocking=True)


def own_share(batch: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """B images [B, ...] for this process, of the joined batch in the given order [W B]."""
    mine = order[get_rank() * len(batch) :][: len(batch)]
    return torch.cat(all_gather(batch))[mine]


def back_in_order(values: torch.Tensor, order: torch.Tensor | None) -> torch.Tensor:
    """Values [W B, D] of the joined batch, rank 0 first, from every process's share [B, D]; None: not shuffled."""
    everyone = torch.cat(all_gather(values))
    return everyone if order is None else torch.empty_like(everyone).index_copy_(0, order, everyone)


def has_batch_statistics(encoder: nn.Module) -> bool:
    """Whether a batch norm of the encoder takes the statistics of this process's images, and not of all."""
    norms = (each for each in encoder.modules() if isinstance(each, _BatchNorm))
    return any(each.training and not isinstance(each, PortableSyncBN | nn.SyncBatchNorm) for each in norms)


def default_groups(batch: int) -> int:
    """Parts of a process's batch: 1 on several processes, on a single one 8 if that leaves 2 images or more in each."""
    return GROUPS if get_world_size() == 1 and batch % GROUPS == 0 and batch >= 2 * GROUPS else 1


def warn_of_one_group(batch: int) -> None:
    """Log that one process keeps a batch whole."""
    print_log(
        f'MoCo: a batch of {batch} images on one process is not parted into {GROUPS} groups of at least 2, so batch '
        'norm sees all queries, and all keys, together, and their common statistics can tell a key; set '
        f'train_dataloader.batch_size to a multiple of {GROUPS}, or model.bn_groups',
        logger='current',
        level=logging.WARNING,
    )
