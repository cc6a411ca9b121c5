"""Runner and training loop."""

from .graft_runner import GraftRunner
from .latest import checkpoint_folders, finished, latest_checkpoint
from .resumable_loop import ResumableEpochLoop

__all__ = ['GraftRunner', 'ResumableEpochLoop', 'checkpoint_folders', 'finished', 'latest_checkpoint']
