"""The operators of mmcv, computed by torchvision and torch where mmcv's compiled extension is not installed.

``mmcv.ops`` needs a module ``mmcv._ext``, which is C++ and CUDA code. :func:`install` provides that module, and only
that one, if it is not found (see :mod:`.finder`). Nothing is imported before ``mmcv.ops`` asks for it.
"""

from .finder import VARIABLE, install

__all__ = ['VARIABLE', 'install']
