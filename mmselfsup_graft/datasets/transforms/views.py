"""Several random views of one image."""

from collections.abc import Callable, Sequence
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from mmselfsup_graft.registry import TRANSFORMS

from .building import build_pipeline


@TRANSFORMS.register_module()
class TwoViews(BaseTransform):
    """Replace ``results['img']`` by a list of two independently augmented views of it.

    Unlike mmpretrain's ``MultiView`` the image is not deep-copied for each view: transforms of PIL images return new
    images, so sharing is safe. Only the image is kept of what a view writes into its results.

    Args:
        view1: Transforms of the first view.
        view2: Transforms of the second view; ``None`` stands for those of the first.
    """

    def __init__(
        self,
        view1: Sequence[dict[str, Any] | Callable],
        view2: Sequence[dict[str, Any] | Callable] | None = None,
    ) -> None:
        first = Compose(build_pipeline(view1))
        self.views = (first, first if view2 is None else Compose(build_pipeline(view2)))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Put the list of two views into ``img``."""
        results['img'] = [view(dict(results))['img'] for view in self.views]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(view1={self.views[0]}, view2={self.views[1]})'
