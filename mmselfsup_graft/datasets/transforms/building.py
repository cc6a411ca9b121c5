"""Building lists of transforms from configs."""

from collections.abc import Callable, Sequence
from typing import Any

from mmselfsup_graft.registry import TRANSFORMS


def build_pipeline(transforms: Sequence[dict[str, Any] | Callable]) -> list[Callable]:
    """Build transform configs and pass callables through.

    mmengine's ``Compose`` looks in the root registry, which finds our own names only while our scope is the default
    one; our registry finds them always.
    """
    return [TRANSFORMS.build(item) if isinstance(item, dict) else item for item in transforms]
