"""Data sets that tell of the process that reads them: their speed is known, or they count its threads."""

import time

import cv2
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


class ThreadCounts(SleepingImages):
    """The threads of OpenCV and of torch in the process that reads it."""

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([cv2.getNumThreads(), torch.get_num_threads()])
