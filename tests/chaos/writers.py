"""Tools that write many files, killed and run again."""

import random
from pathlib import Path
from typing import Any

from test_datasets.shard_data import folder_of

from .children import Measure, measured, run, tool
from .scenario import Failure, Scenario

IMAGES = 14


class _Writer(Scenario):
    """Kill a writer once or twice, run it again: the files must be those of an undisturbed run."""

    measure: Measure
    share = 0.5

    def arguments(self, target: Path) -> tuple[Any, ...]:
        """The tool and its arguments."""
        raise NotImplementedError

    def prepare(self, folder: Path) -> None:
        """Write once, undisturbed."""
        self.source, self.whole = folder_of(folder / 'source', IMAGES), folder / 'whole'
        given = self.arguments(self.whole)
        self.measure = measured(tool, *given, log=folder / 'whole.log', folder=self.whole)

    def round(self, folder: Path, draw: random.Random) -> str:
        """Kill, then write to the end."""
        target, ends = folder / 'target', []
        for _ in range(draw.randint(1, 2)):
            kill = self.measure.kill(draw)
            ended = run(tool, *self.arguments(target), log=folder / 'killed.log', kill=kill, folder=target)
            if not ended.killed and ended.code != 0:
                raise Failure(f'{kill}: ended with {ended.code}: {ended.text[-2000:]}')
            ends.append(f'at {kill.kind}' if ended.killed else 'too late')
        ended = run(tool, *self.arguments(target), log=folder / 'again.log')
        if ended.code != 0:
            raise Failure(f'{ends}: run again it ended with {ended.code}: {ended.text[-2000:]}')
        if _tree(target) != _tree(self.whole):
            names = {name for name, _ in _tree(target).items() ^ _tree(self.whole).items()}
            raise Failure(f'{ends}: other files than undisturbed: {sorted(names)[:5]}')
        return ends[-1]


def _tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class MakeShards(_Writer):
    """``make_shards``."""

    name = 'make_shards, killed'

    def arguments(self, target: Path) -> tuple[Any, ...]:
        """Archives of five images."""
        return 'dataset_tools/make_shards', self.source, target, '--split', 'train', '--per-shard', 5


class StoreResized(_Writer):
    """``store_resized``."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.name = f'store_resized {form}, killed'

    def arguments(self, target: Path) -> tuple[Any, ...]:
        """Images of 8 px."""
        options = ('--short-side', 8, '--format', self.form, '--per-shard', 5)
        return 'dataset_tools/store_resized', self.source, target, *options
