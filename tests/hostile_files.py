"""Checkpoint files made to harm their reader, and good ones, damaged.

:func:`hostile_files` writes the files that were thought out, :func:`damaged_files` any number of copies of good files
of every container with faults drawn by a seed. None holds more than a few megabytes.
"""

import io
import json
import pickle
import pickletools
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chaos import mutate
from hostile_budget import refused_pickles
from hostile_pickles import (
    COUNT,
    EMPTY_DICT,
    END_OF_STORAGE,
    RAW,
    STOP,
    beside,
    code_pickles,
    growing_pickles,
    items,
    odd_pickles,
    storage,
    vit_weights,
)
from safetensors.torch import save as to_safetensors


# ---------------------------------------------------------------- containers
def zip_file(
    content: bytes, storages: Mapping[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
) -> bytes:
    """A file of ``torch.save`` with this pickle, which ends with its STOP."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', content)
        archive.writestr('archive/byteorder', b'little')
        for key, raw in (storages or {}).items():
            archive.writestr(f'archive/data/{key}', raw)
        archive.writestr('archive/version', b'3\n')
    return file.getvalue()


def legacy_file(content: bytes, storages: Mapping[str, tuple[int, bytes]] | None = None) -> bytes:
    """The same as PyTorch wrote it before version 1.6; of each storage the number of its elements and its bytes."""
    stored = storages or {}
    start = [pickle.dumps(each, protocol=2) for each in (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True})]
    ending = [pickle.dumps(list(stored), protocol=2)]
    ending += [struct.pack('<q', count) + raw for count, raw in stored.values()]
    return b''.join([*start, content, *ending])


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def good_files() -> dict[str, bytes]:
    """A good checkpoint in every container: file name -> bytes."""
    state = vit_weights()
    content = {'model': state, 'epoch': 3, 'args': {'lr': 0.1}, 'scores': np.arange(3.0)}
    zipped, legacy = saved(content), saved(content, _use_new_zipfile_serialization=False)
    return {
        'zip.pth': zipped,
        'legacy.pth': legacy,
        'named.pth.tar': zipped,
        'named.bin': legacy,
        'plain.safetensors': to_safetensors(state),
    }


def odd_tops() -> dict[str, bytes]:
    """Files whose top is of an odd kind."""
    good = vit_weights()
    as_model = dict(good)
    kinds: dict[str, Any] = {
        'nan weights': {**as_model, 'cls_token': good['cls_token'] * float('nan')},
        'infinite weights': {**as_model, 'norm.bias': good['norm.bias'] / 0},
        'bool weights': {**as_model, 'norm.bias': good['norm.bias'] > 0},
        'integer weights': {**as_model, 'blocks.0.attn.qkv.weight': good['blocks.0.attn.qkv.weight'].long()},
        'complex weights': {**as_model, 'norm.bias': good['norm.bias'] * 1j},
        'float8 weights': {**as_model, 'norm.bias': good['norm.bias'].to(torch.float8_e4m3fn)},
        'no elements': {**as_model, 'norm.bias': torch.zeros(0)},
        'large weights': {**as_model, 'norm.bias': good['norm.bias'].double() + 1e300},
        'text as a weight': {**as_model, 'norm.bias': 'zeros'},
        'wide stem': {**as_model, 'patch_embed.proj.weight': torch.zeros(100_000, 1, 1, 1)},
        'long patch': {**as_model, 'patch_embed.proj.weight': torch.zeros(8, 1, 1, 100_000)},
        'wide layers': {**as_model, 'blocks.0.mlp.fc1.weight': torch.zeros(1_000_000, 1)},
    }
    plain = {kind: saved({'model': state}) for kind, state in kinds.items()}
    many = {f'blocks.{n}.attn.qkv.weight': good['norm.bias'] for n in range(20_000)}
    return {
        **plain,
        'many blocks': saved({'model': {**as_model, **many}}),
        'list as model': saved({'state_dict': [1, 2], 'model': 'text', 'module': None}),
        'numbers as names': saved({'state_dict': {1: torch.ones(1), 2: torch.ones(1)}}),
        'text as weights': saved({'state_dict': {**as_model, 'cls_token': 'text'}}),
        'text as meta': saved({'state_dict': as_model, 'meta': 'text', 'message_hub': 3, 'optimizer': []}),
        'numbers in meta': saved({'state_dict': as_model, 'meta': {'epoch': 'x', 'iter': None}}),
    }


def _raw_files() -> dict[str, bytes]:
    """Containers that lie."""
    good = beside(b'N')
    whole = zip_file(good, {'w': RAW})
    end = whole.rindex(b'PK\x05\x06')
    entry = whole.index(b'PK\x01\x02')
    zeros = bytes(50 * 2**20)
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, 'w') as archive:
        for part in ('archive/data.pkl', 'archive/data.pkX'):
            archive.writestr(part, good)
    program = io.BytesIO()
    with zipfile.ZipFile(program, 'w') as archive:
        archive.writestr('archive/data.pkl', good)
        archive.writestr('archive/constants.pkl', b'N.')
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode='w') as archive_file:
        archive_file.addfile(tarfile.TarInfo('pickle'), io.BytesIO(b''))
    huge = storage('w', 2**40).replace(END_OF_STORAGE, b'NtQ')
    header = json.dumps({'a': {'dtype': 'F32', 'shape': [2**40], 'data_offsets': [0, 4]}}).encode()
    overlap = json.dumps({n: {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]} for n in ('a', 'b')}).encode()
    length = struct.Struct('<Q')
    return {
        'deflated.pth': zip_file(beside(b'N'), {'w': RAW, 'z': zeros}, zipfile.ZIP_DEFLATED),
        'larger parts.pth': whole[: entry + 20] + struct.pack('<II', 2**31, 2**31) + whole[entry + 28 :],
        'part outside.pth': whole[: entry + 42] + struct.pack('<I', 2**31) + whole[entry + 46 :],
        'directory too large.pth': whole[: end + 12] + struct.pack('<I', 2**31) + whole[end + 16 :],
        'directory elsewhere.pth': whole[: end + 16] + struct.pack('<I', 7) + whole[end + 20 :],
        'two of one name.pth': twice.getvalue().replace(b'pkX', b'pkl'),
        'many parts.pth': zip_file(good, {'w': RAW, **{str(n): b'' for n in range(20_000)}}),
        'no pickle.pth': zip_file(b'', {})[:40],
        'program.pth': program.getvalue(),
        'other zip.pth': zip_file(b'').replace(b'data.pkl', b'data.xyz'),
        'tar.pth.tar': tar.getvalue(),
        'empty.pth': b'',
        'zip beginning.pth': b'PK\x03\x04',
        'text.pth': b'<html>404</html>\n',
        'pickle.pth': pickle.dumps({'model': [1, 2]}),
        'huge storage of old.pth': legacy_file(b'\x80\x02' + items(EMPTY_DICT, {'a': huge}) + STOP),
        'no storages of old.pth': legacy_file(beside(b'N', old=True)),
        'wrong count of old.pth': legacy_file(beside(b'N', old=True), {'w': (2**40, RAW)}),
        'short.safetensors': b'\x01',
        'header too large.safetensors': length.pack(2**62) + b'{}',
        'header too long.safetensors': length.pack(90 * 2**20) + b'{}',
        'shape too large.safetensors': length.pack(len(header)) + header + bytes(4),
        'overlap.safetensors': length.pack(len(overlap)) + overlap + bytes(4),
        'deep.safetensors': length.pack(200_000) + b'[' * 200_000,
    }


def hostile_files(folder: Path, marker: Path) -> dict[str, Path]:
    """Write the hostile files that were thought out.

    Args:
        folder: Where to.
        marker: What they try to make; it must not exist afterwards.

    Returns:
        What each tries -> its file.
    """
    growing = growing_pickles() | {what: value for what, (value, _) in refused_pickles().items()}
    pickles = {**code_pickles(marker), **growing, **odd_pickles()}
    contents = {f'{what}.pth': zip_file(beside(value), {'w': RAW}) for what, value in pickles.items()}
    for what, value in pickles.items():
        if what not in growing:
            contents[f'{what} of old.pth'] = legacy_file(beside(value, old=True), {'w': (COUNT, RAW)})
    contents |= {f'{what}.pth': content for what, content in odd_tops().items()} | _raw_files()
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for what, content in contents.items():
        paths[what] = folder / what
        paths[what].write_bytes(content)
    return paths


# ---------------------------------------------------------------- drawn
def damaged_files(folder: Path, seed: int, count: int) -> Iterator[tuple[str, Path]]:
    """Write good files of every container with one to three faults each, drawn by a seed.

    Args:
        folder: Where to; each file takes the place of the one before.
        seed: Of the faults.
        count: Number of files.

    Yields:
        What was done, and the file.
    """
    draw = np.random.default_rng(seed)
    good = list(good_files().items())
    folder.mkdir(parents=True, exist_ok=True)
    for number_ in range(count):
        kind, content = good[number_ % len(good)]
        done = []
        for _ in range(draw.integers(1, 4)):
            fault = _FAULTS[draw.integers(len(_FAULTS))]
            content = fault(bytearray(content), draw)
            done.append(fault.__name__.strip('_'))
        path = folder / f'damaged_{kind}'
        path.write_bytes(content)
        yield f'{kind}, seed {seed}, file {number_}: {", ".join(done)}', path


def _flip_early_bits(content: bytearray, draw: np.random.Generator) -> bytes:
    """Where the pickle or the header is."""
    for place in draw.integers(0, min(len(content), 3000) or 1, size=draw.integers(1, 4)):
        content[place : place + 1] = bytes(byte ^ (1 << int(draw.integers(8))) for byte in content[place : place + 1])
    return bytes(content)


def _flip_late_bits(content: bytearray, draw: np.random.Generator) -> bytes:
    """Where the directory of a zip file is."""
    return bytes(reversed(_flip_early_bits(bytearray(reversed(content)), draw)))


def _swap(content: bytearray, draw: np.random.Generator) -> bytes:
    a, b, c = sorted(draw.integers(0, len(content) + 1, size=3))
    return bytes(content[:a] + content[b:c] + content[a:b] + content[c:])


def _operations(content: bytearray, draw: np.random.Generator) -> bytes:
    """Operations of pickles at places drawn."""
    known = [ord(each.code) for each in pickletools.opcodes]
    for place in draw.integers(0, min(len(content), 3000) or 1, size=3):
        content[place : place + 1] = bytes([draw.choice(known)])
    return bytes(content)


_FAULTS = (
    mutate.flip_bits,
    _flip_early_bits,
    _flip_late_bits,
    mutate.truncate,
    mutate.cut_out,
    mutate.repeat,
    _swap,
    mutate.large_number,
    _operations,
)
