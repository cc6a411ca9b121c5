"""Console output of a run, without the long texts about settings that mmengine logs; the log file keeps them."""

import logging

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
)


class _ConsoleFilter(logging.Filter):
    """Removes long messages from the console."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the console shows a record."""
        return not record.getMessage().startswith(_FILE_ONLY)


def shorten_console(logger: logging.Logger) -> None:
    """Shorten the console output of a logger that also writes a file; ``log_level='DEBUG'`` shows everything."""
    to_file = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
    for handler in logger.handlers:
        if to_file and handler not in to_file and handler.level > logging.DEBUG:
            handler.addFilter(_ConsoleFilter())


def log_file_of(logger: logging.Logger) -> str | None:
    """The file that a logger writes; None if it writes none."""
    return next((each.baseFilename for each in logger.handlers if isinstance(each, logging.FileHandler)), None)
