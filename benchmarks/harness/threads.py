"""Threads of the libraries that have their own."""

import cv2
import torch


def set_threads(count: int) -> None:
    """Bind torch and OpenCV in this process, and in those that it forks, to so many threads."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
