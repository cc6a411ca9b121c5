"""Context managers for eval mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode; the mode of every part is restored afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def full_precision_eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode as in :func:`eval_mode`, without gradients and in full precision.

    TF32, which cuDNN uses for convolutions by default, keeps 10 bits of a number: too few for small differences.
    """
    backends: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    allowed = [each.allow_tf32 for each in backends]
    try:
        for each in backends:
            each.allow_tf32 = False
        with eval_mode(module), torch.inference_mode():
            yield
    finally:
        for each, value in zip(backends, allowed):
            each.allow_tf32 = value
