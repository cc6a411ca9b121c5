"""Console output of a run, without the long texts about settings that mmengine logs; the log file keeps them."""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# beginnings of messages that go to the log file only
_FILE_ONLY = (
    '\n-----',  # the environment
    'Config:\n',
    'Hooks will be executed in the following order',
    'Distributed training is not used, all SyncBatchNorm',
    'parameter groups\n',
    'Checkpoints will be saved to',
    'Exp name:',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Epoch(train)',  # the live line has this
    'Iter(train)',
    'Saving checkpoint at',
    'training data: ',  # the summary has this, and what follows
)
_OF_DATA = re.compile(r"(ImageFolder|ImageNet|ImageList|RawShards|TarShards) '")


class _ConsoleFilter(logging.Filter):
    """Removes long messages from the console."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the console shows a record."""
        text = record.getMessage()
        return not text.startswith(_FILE_ONLY) and not _OF_DATA.match(text)


def shorten_console(logger: logging.Logger) -> None:
    """Shorten the console output of a logger that also writes a file; ``log_level='DEBUG'`` shows everything."""
    to_file = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
    for handler in logger.handlers:
        if to_file and handler not in to_file and handler.level > logging.DEBUG:
            handler.addFilter(_ConsoleFilter())


class LiveLine:
    """One line that is written again and again; in a file or pipe, a new line each time.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.rewrites = stream.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        """Replace the line."""
        if not self.rewrites:
            print(text, file=self.stream, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1
        print(f'\r\x1b[K{text[:width]}', end='', file=self.stream, flush=True)
        self._shown = True

    def keep(self) -> None:
        """Leave the line where it is; what follows begins a new one."""
        if self._shown:
            print(file=self.stream, flush=True)
        self._shown = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Erase the line before a record is written; as a filter of a handler it removes nothing."""
        if self._shown:
            print('\r\x1b[K', end='', file=self.stream, flush=True)
        self._shown = False
        return True


@contextmanager
def live_line(logger: logging.Logger) -> Iterator[LiveLine | None]:
    """A line that the console output of this logger does not run into; None if the logger has no console."""
    console = next((each for each in logger.handlers if type(each) is logging.StreamHandler), None)
    if console is None:
        yield None
        return
    line = LiveLine(console.stream)
    console.addFilter(line)
    try:
        yield line
    finally:
        line.keep()
        console.removeFilter(line)


def log_file_of(logger: logging.Logger) -> str | None:
    """The file that a logger writes; None if it writes none."""
    return next((each.baseFilename for each in logger.handlers if isinstance(each, logging.FileHandler)), None)
