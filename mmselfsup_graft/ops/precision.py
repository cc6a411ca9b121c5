"""Number types: all kernels of torchvision support float32 and float64, only some half precision."""

from functools import reduce

import torch


def at_least_float32(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """All tensors in one type that holds them: float64 if one of them is, else float32; no copy if unchanged."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return [tensor.to(dtype) for tensor in tensors]
