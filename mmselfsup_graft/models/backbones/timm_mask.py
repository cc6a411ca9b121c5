"""Any model of timm with a mask token."""

from typing import Any, NamedTuple

import torch
from torch import nn

from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.masking import expand_mask
from mmselfsup_graft.registry import MODELS

from .mask_token import MaskToken, TokenSite, token_mask
from .timm_backbone import TimmBackbone, eval_mode


class _Layout(NamedTuple):
    """Order of features: tokens [B, E + L, C] with E extra ones, or a map with channels first or last."""

    is_map: bool
    channels_last: bool = True
    extra: int = 0


@MODELS.register_module()
class MaskedTimmBackbone(MaskToken, TimmBackbone):  # type: ignore[misc]  # MaskToken passes all arguments on
    """:class:`TimmBackbone` with a mask token, for SimMIM, A2MIM and MaskedTEC.

    ``mask_layer`` 0 is the output of the patch embedding, before positions, or of the stem; k is the input of block k
    (from 1), as timm counts blocks. Class token and registers stay as they are.

    Args:
        out_type: As in :class:`TimmBackbone`; the objectives need ``featmap``, the last map.
        **kwargs: Arguments of :class:`MaskToken` and of :class:`TimmBackbone`.

    Raises:
        ConfigError: Also if the features where the token acts are neither tokens nor a map.
    """

    def __init__(self, out_type: str | None = 'featmap', **kwargs: Any) -> None:
        super().__init__(out_type=out_type, **kwargs)

    def token_sites(self) -> list[TokenSite]:
        """After the stem, then one site before each block; their widths are measured with an image."""
        modules = dict(self.named_modules())
        inputs = [next(modules[name] for name in names if name in modules) for names in self.depth.blocks]
        stem = getattr(self.timm_model, 'patch_embed', None)
        first = (inputs[0], True) if stem is None else (stem, False)
        places = [first, *((module, True) for module in inputs)]
        shapes = self._shapes(places)
        sites = []
        self._layouts: list[_Layout] = []
        for (module, on_input), shape in zip(places, shapes):
            layout = self._layout(module, on_input, shape, shapes[0])
            self._layouts.append(layout)
            sites.append(TokenSite(module, on_input, shape[-1] if layout.channels_last else shape[1]))
        return sites

    def _shapes(self, places: list[tuple[nn.Module, bool]]) -> list[tuple[int, ...]]:
        """Shape of the features at every place, for one image."""
        found: dict[int, tuple[int, ...]] = {}
        handles = []
        for number, (module, on_input) in enumerate(places):

            def note(module: nn.Module, inputs: Any, output: Any = None, number: int = number) -> None:
                value = inputs if output is None else output
                found[number] = tuple((value[0] if isinstance(value, tuple) else value).shape)

            register = module.register_forward_pre_hook if on_input else module.register_forward_hook
            handles.append(register(note))
        try:
            with eval_mode(self), torch.no_grad():
                self.timm_model.forward_features(self.example_image())
        finally:
            for handle in handles:
                handle.remove()
        if len(found) < len(places):
            raise ConfigError(
                f'{type(self).__name__}: {self.timm_call["model_name"]} of timm does not call all of its blocks as '
                'modules, so a mask token cannot be put in'
            )
        return [found[number] for number in range(len(places))]

    def _layout(self, module: nn.Module, on_input: bool, shape: tuple[int, ...], stem: tuple[int, ...]) -> _Layout:
        if len(shape) == 3:
            behind = on_input and (len(stem) != 3 or shape[1] > stem[1])  # extra tokens have joined the patches
            return _Layout(is_map=False, extra=self.num_extra_tokens if behind else 0)
        if len(shape) != 4:
            raise ConfigError(
                f'{type(self).__name__}: {self.timm_call["model_name"]} of timm has features of shape {shape} in '
                f'{type(module).__name__}, expected tokens or a map'
            )
        height, width = self.example_image().shape[2:]
        last, first = shape[1] * width == shape[2] * height, shape[2] * width == shape[3] * height
        if last and first:  # as many channels as rows
            order = getattr(module, 'output_fmt', None) or getattr(self.timm_model, 'output_fmt', '')
            last = str(order).endswith('NHWC')
        return _Layout(is_map=True, channels_last=last)

    def _add_token(self, site: TokenSite, layer: int) -> None:
        self._at = self._layouts[layer]
        super()._add_token(site, layer)

    def token_shapes(self, width: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of token and gain for the features where the token acts."""
        if not self._at.channels_last:
            return super().token_shapes(width)
        # one shape for tokens and maps: a ViT of timm with images of any size has maps before its positions
        return (1, 1, width), (width,)

    def mask_features(self, z: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Put the token into tokens [B, E + L, C], or a map with channels first or last."""
        if not self._at.is_map:
            extra, patches = z[:, : self._at.extra], z[:, self._at.extra :]
            flat = token_mask(mask, patches.shape[1], self._image_size)  # [B, L, 1]
            return torch.cat([extra, self._mix(patches, flat, places=(1,))], dim=1)
        if not self._at.channels_last:
            return super().mask_features(z, mask)
        cells = expand_mask(mask, (z.shape[1], z.shape[2])).permute(0, 2, 3, 1)  # [B, H, W, 1]
        return self._mix(z, cells, places=(1, 2))
