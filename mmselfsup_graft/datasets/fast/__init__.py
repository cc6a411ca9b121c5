"""The quick way from image files to batches: the same random numbers as the PIL pipeline, other kernels.

Pipelines are compiled to lists of operations (:mod:`mmselfsup_graft.datasets.augment`), run in workers
(``pipeline``) or for whole batches on the device that trains (``batch``; ``encoded`` and ``dali`` also decode there).
"""

from .batch import augment_batch, augment_views
from .compile_pipeline import MODES, compile_pipeline, resolve_mode
from .dali import DaliDecoder
from .decode import Decoder
from .encoded import decode_views
from .gathered import Gathered, LazySamples, collate
from .pipeline import FastPipeline

__all__ = [
    'MODES',
    'DaliDecoder',
    'Decoder',
    'FastPipeline',
    'Gathered',
    'LazySamples',
    'augment_batch',
    'augment_views',
    'collate',
    'compile_pipeline',
    'decode_views',
    'resolve_mode',
]
