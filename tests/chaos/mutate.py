"""Faults in the bytes of a file, drawn by a generator."""

import struct
from collections.abc import Callable

import numpy as np

WORDS = (b'null', b'[]', b'{}', b'-1', b'1e999', b'NaN', b'"', b'\\u0000', b'\xff', b'../', b'\r\n')


def damaged(content: bytes, draw: np.random.Generator) -> tuple[str, bytes]:
    """One to three faults; returns their names and the bytes."""
    names = []
    for _ in range(draw.integers(1, 4)):
        fault = FAULTS[draw.integers(len(FAULTS))]
        content = fault(bytearray(content), draw)
        names.append(fault.__name__)
    return ', '.join(names), content


def flip_bits(content: bytearray, draw: np.random.Generator) -> bytes:
    """Anywhere."""
    for place in draw.integers(0, max(len(content), 1), size=draw.integers(1, 9)):
        content[place : place + 1] = bytes(byte ^ (1 << int(draw.integers(8))) for byte in content[place : place + 1])
    return bytes(content)


def flip_early_bits(content: bytearray, draw: np.random.Generator) -> bytes:
    """Where headers are."""
    head = flip_bits(content[:512], draw)
    return head + bytes(content[512:])


def flip_late_bits(content: bytearray, draw: np.random.Generator) -> bytes:
    """Where directories of archives are."""
    return bytes(reversed(flip_early_bits(bytearray(reversed(content)), draw)))


def truncate(content: bytearray, draw: np.random.Generator) -> bytes:
    """Cut the end off."""
    return bytes(content[: draw.integers(0, len(content) + 1)])


def cut_out(content: bytearray, draw: np.random.Generator) -> bytes:
    """Lose a piece."""
    start, stop = sorted(draw.integers(0, len(content) + 1, size=2))
    return bytes(content[:start] + content[stop:])


def blank(content: bytearray, draw: np.random.Generator) -> bytes:
    """Zeros for a piece, as after a crash of the file system."""
    start, stop = sorted(draw.integers(0, len(content) + 1, size=2))
    return bytes(content[:start]) + bytes(stop - start) + bytes(content[stop:])


def repeat(content: bytearray, draw: np.random.Generator) -> bytes:
    """A piece twice."""
    start, stop = sorted(draw.integers(0, len(content) + 1, size=2))
    return bytes(content[:stop] + content[start:])


def large_number(content: bytearray, draw: np.random.Generator) -> bytes:
    """A number of eight bytes that asks for much."""
    place = int(draw.integers(0, max(len(content) - 8, 1)))
    content[place : place + 8] = struct.pack('<Q', 2 ** int(draw.integers(16, 64)) - int(draw.integers(2)))
    return bytes(content)


def text(content: bytearray, draw: np.random.Generator) -> bytes:
    """Words that mean something to parsers of text."""
    word = WORDS[draw.integers(len(WORDS))]
    start = int(draw.integers(0, len(content) + 1))
    return bytes(content[:start]) + word + bytes(content[start + int(draw.integers(0, 12)) :])


FAULTS: tuple[Callable[[bytearray, np.random.Generator], bytes], ...] = (
    flip_bits,
    flip_early_bits,
    flip_late_bits,
    truncate,
    cut_out,
    blank,
    repeat,
    large_number,
    text,
)
