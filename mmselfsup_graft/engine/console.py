"""What a run shows on the console: not the pages about settings that mmengine logs, which the log's file keeps."""

import logging

# beginnings of the messages that only the file keeps
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
    """Leaves out of a console what is long, and of use for a look back only."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the console shows a record."""
        return not record.getMessage().startswith(_FILE_ONLY)


def shorten_console(logger: logging.Logger) -> None:
    """Let the console of a logger that also writes a file show a short form; ``log_level='DEBUG'`` shows everything."""
    to_file = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
    for handler in logger.handlers:
        if to_file and handler not in to_file and handler.level > logging.DEBUG:
            handler.addFilter(_ConsoleFilter())


def log_file_of(logger: logging.Logger) -> str | None:
    """The file that a logger writes; None if it writes none."""
    return next((each.baseFilename for each in logger.handlers if isinstance(each, logging.FileHandler)), None)
