"""Damaged files of every kind that is read: an error in one line or a result, never a crash, a hang or foreign code."""

import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from test_datasets.shard_data import folder_of

from mmselfsup_graft.analysis.figures.curves import read_history
from mmselfsup_graft.checkpoints import read_checkpoint
from mmselfsup_graft.datasets import ImageFolder, ImageList, RawShards, TarShards
from mmselfsup_graft.datasets.shards.make_shards import make_shards
from mmselfsup_graft.datasets.shards.stored_copy import store_resized
from mmselfsup_graft.errors import GraftError
from mmselfsup_graft.evaluation.cache import _read_all
from mmselfsup_graft.recipes.recipe import read_done

from .children import run
from .mutate import damaged
from .scenario import Failure, Scenario

BATCH = 40  # files of a round
_SECONDS = 20  # for one file
_MEMORY = 3 << 30  # bytes beyond what the process has
_FOREIGN = {'os.system', 'os.exec', 'os.posix_spawn', 'os.fork', 'subprocess.Popen', 'socket.connect', 'os.remove'}

Made = tuple[Path, Callable[[], Any]]  # the file to damage, and what reads it


def _state() -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    state = {f'blocks.{n}.weight': torch.randn(12, 7, generator=draw) for n in range(4)}
    return {'state_dict': state, 'meta': {'epoch': 3, 'text': 'a'}, 'optimizer': {'state': {0: state}}}


def _checkpoint(name: str, **options: Any) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        torch.save(_state(), folder / name, **options)
        return folder / name, lambda: read_checkpoint(folder / name)

    return make


def _safetensors(folder: Path) -> Made:
    from safetensors.torch import save_file

    save_file(_state()['state_dict'], folder / 'weights.safetensors')
    return folder / 'weights.safetensors', lambda: read_checkpoint(folder / 'weights.safetensors')


def _cache(folder: Path) -> Made:
    path, rows = folder / 'cache.npz', np.random.RandomState(0).randn(20, 6).astype(np.float32)
    np.savez(path, features=rows, labels=np.arange(20))

    def read() -> None:
        found = _read_all({'f': path}, range(20))
        if found and not np.array_equal(found['f'][0], rows):
            raise Failure('a damaged cache was taken for a good one')

    return path, read


def _samples(dataset: Any) -> None:
    for number in range(len(dataset)):
        dataset[number]


def _tar(name: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        folder_of(folder / 'source', 8)
        make_shards(folder / 'source', folder / 'shards', split='train', per_shard=4)
        return folder / 'shards' / name, lambda: _samples(TarShards(str(folder / 'shards'), pipeline=_PIPELINE))

    return make


def _raw(name: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        folder_of(folder / 'source', 8)
        store_resized(folder / 'source', folder / 'copy', form='raw', short_side=8, per_shard=4)
        place = next((folder / 'copy').rglob(name))
        root = place.parent if name != 'manifest.json' else next((folder / 'copy').rglob('*.bin')).parent
        return place, lambda: _samples(RawShards(str(root), pipeline=_PIPELINE))

    return make


def _image(form: str) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        pixels = np.random.RandomState(0).randint(0, 256, (24, 20, 3), dtype=np.uint8)
        (folder / 'images').mkdir()
        path = folder / 'images' / f'a.{form}'
        Image.fromarray(pixels).save(path)
        read = dict(data_root=str(folder / 'images'), pipeline=_PIPELINE, on_corrupt='raise')
        return path, lambda: _samples(ImageFolder(**read))

    return make


def _list(folder: Path) -> Made:
    folder_of(folder / 'source', 6)
    lines = [f'c{n % 2}/{n:02d}.png {n % 2}' for n in range(6)]
    (folder / 'list.txt').write_text('\n'.join(lines) + '\n')
    read = dict(data_root=str(folder / 'source' / 'train'), ann_file=str(folder / 'list.txt'), pipeline=_PIPELINE)
    return folder / 'list.txt', lambda: _samples(ImageList(**read))


def _done(folder: Path) -> Made:
    (folder / 'mim').mkdir()
    path = folder / 'mim' / 'done.json'
    path.write_text(json.dumps({'checkpoint': 'epoch_2.pth', 'sha256': 'a' * 64, 'seconds': 3.5}))
    return path, lambda: read_done(folder, 'mim')


def _history(folder: Path) -> Made:
    rows = [{'iter': n, 'epoch': 0, 'loss': 1 / (n + 1), 'lr': [1e-3]} for n in range(9)]
    (folder / 'history.jsonl').write_text('\n'.join(map(json.dumps, rows)) + '\n')
    return folder / 'history.jsonl', lambda: read_history(folder)


_PIPELINE = [dict(type='LoadImage')]
KINDS: dict[str, Callable[[Path], Made]] = {
    '.pth': _checkpoint('a.pth'),
    'legacy .pth': _checkpoint('a.pth', _use_new_zipfile_serialization=False),
    '.bin': _checkpoint('a.bin'),
    '.pth.tar': _checkpoint('a.pth.tar'),
    '.safetensors': _safetensors,
    'cache .npz': _cache,
    'archive .tar': _tar('images-000000.tar'),
    'index.json': _tar('index.json'),
    'raw .bin': _raw('*.bin'),
    'raw .json': _raw('*.json'),
    '.png': _image('png'),
    '.jpg': _image('jpg'),
    'list': _list,
    'done.json': _done,
    'history.jsonl': _history,
}


class DamagedFiles(Scenario):
    """One kind of file, many damaged ones of it, read in one process."""

    name = 'damaged files'
    share = 0.5

    def __init__(self) -> None:
        self._next = 0

    def round(self, folder: Path, draw: random.Random) -> str:
        """Read a batch; each kind comes in turn."""
        kind = list(KINDS)[self._next % len(KINDS)]
        self._next += 1
        ended = run(read_damaged, kind, draw.getrandbits(32), str(folder), log=folder / 'log')
        notes = folder / 'notes.json'
        found = json.loads(notes.read_text()) if notes.is_file() else {'now': 'making the file', 'bad': []}
        if ended.code != 0:
            raise Failure(f'{kind}: {found["now"]}: the process ended with {ended.code}: {ended.text[-1500:]}')
        if found['bad']:
            raise Failure(f'{kind}: {len(found["bad"])} of {BATCH}, first: {found["bad"][0]}')
        return f'x {BATCH} {kind}'


def read_damaged(kind: str, seed: int, place: str) -> None:
    """Damage a file in many ways and read it, in a process of its own."""
    folder, draw = Path(place), np.random.default_rng(seed)
    path, read = KINDS[kind](folder)
    good, notes = path.read_bytes(), folder / 'notes.json'
    read()
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    ran: list[str] = []
    sys.addaudithook(lambda event, args: ran.append(f'{event} {args}') if event in _FOREIGN else None)
    bad: list[str] = []
    for number in range(BATCH):
        what, content = damaged(good, draw)
        path.write_bytes(content)
        what = f'seed {seed}, file {number}: {what}'
        notes.write_text(json.dumps({'now': what, 'bad': bad}))
        ran.clear()
        signal.alarm(_SECONDS)  # its default is to end the process
        try:
            read()
        except GraftError as error:
            if '\n' in str(error).strip():
                bad.append(f'{what}: an error of several lines: {error}')
        except Exception:
            bad.append(f'{what}: {"".join(traceback.format_exc())[-900:]}')
        signal.alarm(0)
        if ran:
            bad.append(f'{what}: it did {ran[0]}')
        if bad and not (folder / 'first_bad').exists():
            shutil.copy(path, folder / 'first_bad') if path.is_file() else os.mkdir(folder / 'first_bad')
    notes.write_text(json.dumps({'now': 'the end', 'bad': bad}))
