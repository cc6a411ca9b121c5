"""Threads of the libraries that have their own."""

import cv2
import torch


def set_threads(count: int) -> None:
    """Bind torch and OpenCV in this process and its forks to this number of threads."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
