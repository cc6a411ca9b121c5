"""Random state as a function of (seed, rank, iteration)."""

import random
from functools import cache
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmselfsup_graft.registry import HOOKS
from mmselfsup_graft.utils.shared_random import shared_generator

_MIX = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: separates neighboring inputs
_RANK = 0xD1B54A32D192ED03  # another such number: ranks of different seeds draw different numbers


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Seed the process's generators before every iteration.

    What the model draws (mask noise, drop path) then depends on seed, rank and iteration alone, so a run that was
    killed and resumed draws the same numbers as one that was not, on any number of processes, without storing any
    generator's state. The order and augmentation of samples are seeded by sampler and data set.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Pass the run's seed to sampler and data set."""
        sampler = runner.train_dataloader.sampler
        if hasattr(sampler, 'set_seed'):
            sampler.set_seed(runner.seed)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed Python, numpy and torch for this iteration."""
        seed_iteration(runner.seed, runner.rank, runner.iter)


def seed_iteration(seed: int, rank: int, iteration: int) -> None:
    """Seed Python, numpy and torch with a number that depends only on the three arguments.

    The generator that all ranks share gets the number of rank 0.
    """
    value = _mixed(seed, rank, iteration)
    random.seed(value)
    np.random.seed(value % 2**32)
    seed_torch = torch.manual_seed if _has_accelerator() else torch.default_generator.manual_seed
    seed_torch(value % 2**63)
    shared_generator().manual_seed(_mixed(seed, 0, iteration) % 2**63)


def _mixed(seed: int, rank: int, iteration: int) -> int:
    value = ((seed ^ 1) * _MIX + (seed >> 29) + rank * _RANK) % 2**64
    return ((value ^ (iteration + 1)) * _MIX + (value >> 29)) % 2**64


@cache
def _has_accelerator() -> bool:
    """Without one, ``torch.manual_seed`` still prepares to seed every kind, which takes a millisecond."""
    return torch.accelerator.is_available()
