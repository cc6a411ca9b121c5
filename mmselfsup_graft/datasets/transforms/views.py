"""Several random views of one image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import TRANSFORMS

from .building import build_pipeline

Pipeline = Sequence[dict[str, Any] | Callable]


@TRANSFORMS.register_module()
class Views(BaseTransform):
    """Replace ``results['img']`` by a list of independently augmented views of it.

    Unlike mmpretrain's ``MultiView`` every view has its own transforms and the image is not deep-copied for each:
    transforms of PIL images return new images, so sharing is safe. Only the image is kept of what a view writes into
    its results.

    Args:
        views: For every view its transforms.

    Raises:
        ConfigError: If there is no view.
    """

    def __init__(self, views: Sequence[Pipeline]) -> None:
        if not views:
            raise ConfigError(f'{type(self).__name__}: views is empty; give one list of transforms per view')
        self.views = [Compose(build_pipeline(view)) for view in views]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Put the list of views into ``img``."""
        results['img'] = [view(dict(results))['img'] for view in self.views]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({", ".join(map(str, self.views))})'


@TRANSFORMS.register_module()
class TwoViews(Views):
    """The two views of contrastive learning, see :class:`Views`.

    Args:
        view1: Transforms of the first view.
        view2: Transforms of the second view; ``None`` stands for those of the first.
    """

    def __init__(self, view1: Pipeline, view2: Pipeline | None = None) -> None:
        super().__init__([view1, view1 if view2 is None else view2])


@TRANSFORMS.register_module()
class MultiCrop(Views):
    """Crops of several sizes and areas, with the same transforms after them (Caron et al., arXiv 2006.09882).

    Args:
        crops: Groups of crops, in order: ``dict(num=6, size=96, area=(0.05, 0.14))``. ``size`` is in pixels, ``area``
            the range of the share of the image; other keys (``ratio``, ``interpolation``) are those of torchvision's
            ``RandomResizedCrop``.
        transforms: What every crop goes through.

    Raises:
        ConfigError: If there is no crop, or a group lacks a key.
    """

    def __init__(self, crops: Sequence[Mapping[str, Any]], transforms: Pipeline = ()) -> None:
        views: list[Pipeline] = []
        for number, group in enumerate(crops):
            lacking = [key for key in ('num', 'size', 'area') if key not in group]
            if lacking or type(group['num']) is not int or group['num'] < 1:
                raise ConfigError(
                    f'MultiCrop: crops.{number} is {dict(group)}, expected num (1 or more), size and area, as in '
                    'dict(num=6, size=96, area=(0.05, 0.14))'
                )
            others = {key: value for key, value in group.items() if key not in ('num', 'area')}
            crop = {'type': 'mmpretrain.torchvision/RandomResizedCrop', 'scale': tuple(group['area']), **others}
            views += [[crop, *transforms]] * group['num']
        super().__init__(views)
