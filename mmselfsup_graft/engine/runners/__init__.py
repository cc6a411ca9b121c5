"""Runner and training loop."""

from .graft_runner import GraftRunner, latest_checkpoint
from .resumable_loop import ResumableEpochLoop

__all__ = ['GraftRunner', 'ResumableEpochLoop', 'latest_checkpoint']
