"""Runner and training loop."""

from .graft_runner import GraftRunner
from .resumable_loop import ResumableEpochLoop

__all__ = ['GraftRunner', 'ResumableEpochLoop']
