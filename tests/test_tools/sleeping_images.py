"""A data set whose speed is known."""

import time

import torch
from torch.utils.data import Dataset

SECONDS = 0.1


class SleepingImages(Dataset):
    """Every image takes :data:`SECONDS` of sleep."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(SECONDS)
        return torch.full((3, 2, 2), float(index))
