"""A golden set that differs from the committed one in all that its READMEs leave open, with the same numbers.

Tests that take names, sizes, order or optional entries for granted fail on it. Files are renamed, cases in them too;
entries stand in another order; optional ones are left out; some files appear twice; checkpoints are shallower and
otherwise wrapped. What our own arithmetic can make anew is made anew: a wider kernel with zeros around the old one, the
layer decay of another depth, a Swin of three stages, a ViT whose blocks share one table of relative positions.
"""

import random
from collections.abc import Callable
from pathlib import Path

from . import a2mim, checkpoints, layer_grafted, moco, swav, tec
from .files import Words


def write_variant(source: Path, target: Path, seed: int = 5) -> None:
    """Write a variant of a golden set.

    Args:
        source: Folder with the sets of all methods.
        target: Folder to create.
        seed: Of names and orders.
    """
    random.seed(seed)
    words = Words()
    makers: dict[str, Callable[[Path, Path, Words], None]] = {
        'layer_grafted': layer_grafted.write,
        'tec': tec.write,
        'a2mim': a2mim.write,
        'moco_swav': _moco_swav,
        'transfer': checkpoints.write,
        'transfer/numeric': checkpoints.write_numeric,
    }
    for method, make in makers.items():
        (target / method).mkdir(parents=True)
        make(source / method, target / method, words)


def _moco_swav(source: Path, target: Path, words: Words) -> None:
    """One set for two methods."""
    moco.write(source, target, words)
    swav.write(source, target, words)
