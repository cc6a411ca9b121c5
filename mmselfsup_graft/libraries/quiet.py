"""Importing libraries without what they say about packages of their makers that are missing."""

import contextlib
import io
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Pass over what the libraries say while they are imported: that packages of their makers are missing.

    What else is printed meanwhile appears afterwards.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='.*(OneDL|faster_coco_eval).*')
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if 'Could not import OneDL' not in line:
                print(line)
