"""Progress of long work on the terminal."""

import time

from mmengine.dist import is_main_process


class Progress:
    """Now and then one line with the share that is done and the seconds left; silent for what takes moments.

    Args:
        title: What is being done.
        total: Steps in all.
        seconds: Time between two lines, and before the first.
    """

    def __init__(self, title: str, total: int, seconds: float = 10.0) -> None:
        self.title, self.total, self.seconds = title, total, seconds
        self._done = 0
        self._started = self._shown = time.monotonic()

    def step(self, count: int = 1, note: str = '') -> None:
        """Count steps as done; only the main process prints."""
        self._done += count
        now = time.monotonic()
        if now - self._shown < self.seconds or not is_main_process():
            return
        self._shown = now
        left = (now - self._started) / self._done * (self.total - self._done)
        print(f'{self.title}: {100 * self._done / self.total:.0f} %, {left:.0f} s left{note}', flush=True)
