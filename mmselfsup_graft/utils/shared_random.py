"""Random numbers that are the same on all processes."""

from functools import cache

import torch

_SEED = 0x5EED  # before a run seeds it: equal on all processes, too


@cache
def shared_generator() -> torch.Generator:
    """The generator, on the CPU. It stays in step as long as all processes draw equally often.

    In a training run :class:`RandomStateHook` seeds it before every iteration from (seed, iteration).
    """
    return torch.Generator().manual_seed(_SEED)
