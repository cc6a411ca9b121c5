"""The quick way from image files to batches: the same random numbers as the PIL pipeline, other kernels."""

from .compile_pipeline import MODES, compile_pipeline, resolve_mode
from .decode import Decoder
from .gathered import Gathered, LazySamples, collate
from .pipeline import FastPipeline

__all__ = [
    'MODES',
    'Decoder',
    'FastPipeline',
    'Gathered',
    'LazySamples',
    'collate',
    'compile_pipeline',
    'resolve_mode',
]
