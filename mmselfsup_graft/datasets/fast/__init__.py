"""The quick way from image files to batches: the same random numbers as the PIL pipeline, other kernels."""

from .compiling import MODES, compile_pipeline, resolve_mode
from .decode import Decoder
from .pipeline import FastPipeline

__all__ = ['MODES', 'Decoder', 'FastPipeline', 'compile_pipeline', 'resolve_mode']
