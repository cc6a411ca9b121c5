"""Any model of timm as a backbone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isqrt
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import nn

from mmselfsup_graft.checkpoints import Depth
from mmselfsup_graft.checkpoints.formats.timm_call import REFUSED, checked_timm_call
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.models.derived_sizes import EncoderSizes
from mmselfsup_graft.models.masking import take_tokens
from mmselfsup_graft.registry import MODELS
from mmselfsup_graft.utils.suggestions import did_you_mean

from .timm_depth import timm_depth
from .timm_weights import load_timm_weights

_ANY_SIZE = 128  # pixels of an image for models that take all sizes


class KeptPatches(nn.Module):
    """Takes the place of timm's ``PatchDropout``: leaves out the patches that an objective hides, if any.

    Args:
        extra: Tokens before the patches, which stay.
        with_indices: Also return the kept patches, as timm's class for models with rotary positions does.
    """

    def __init__(self, extra: int, with_indices: bool) -> None:
        super().__init__()
        self.extra, self.with_indices = extra, with_indices
        self.keep: torch.Tensor | None = None

    def forward(self, tokens: torch.Tensor) -> Any:
        """Tokens [B, E + L, D] -> [B, E + K, D]."""
        if self.keep is not None:
            kept = take_tokens(tokens[:, self.extra :], self.keep)
            tokens = torch.cat([tokens[:, : self.extra], kept], dim=1)
        return (tokens, self.keep) if self.with_indices else tokens


@MODELS.register_module()
class TimmBackbone(BaseModule):
    """A model of timm as a backbone: ViT, DINOv2, EVA-02, Swin, ConvNeXt, ResNet, hybrids and others.

    Its tensors have timm's names behind ``timm_model.``. Features are those of ``timm.create_model(name,
    num_classes=0)``; layers are timm's own groups (:func:`.timm_depth.timm_depth`).

    Args:
        name: Architecture, one of ``timm.list_models()``, without a tag of weights.
        pretrained: File with weights of this model under timm's names, ``zoo:NAME``, or ``hf:OWNER/REPOSITORY`` in the
            local cache of Hugging Face; see :func:`.timm_weights.load_timm_weights`. timm downloads nothing.
        in_channels: Channels of the images.
        img_size: Side of the images in pixels or (H, W), for models that are built for one size; None is timm's.
        out_type: None for timm's own feature [B, D] (class token or pooled, with what timm has after it), ``featmap``
            for the last map [B, D, H, W], ``raw`` for what ``forward_features`` gives, maps as [B, D, H, W].
        options: Further arguments of ``timm.create_model``: ``global_pool``, ``drop_path_rate``, ``dynamic_img_size``,
            ``embed_dim`` and so on.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: If timm has no such model, an option does not exist or is refused, or the model does not tell its
            layers.
    """

    OUT_TYPES = ('raw', 'featmap')
    #: the argument of this name is read safely, by this toolbox
    reads_pretrained = True

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        in_channels: int = 3,
        img_size: int | Sequence[int] | None = None,
        out_type: str | None = None,
        options: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if out_type not in (None, *self.OUT_TYPES):
            raise ConfigError(f'{type(self).__name__}: out_type is {out_type!r}, expected None, featmap or raw')
        size = {} if img_size is None else {'img_size': img_size if isinstance(img_size, int) else list(img_size)}
        self.timm_call = {'model_name': name, 'in_chans': in_channels, **size, **(options or {})}
        self.pretrained = pretrained
        self.timm_model: Any = create_timm_model(self.timm_call)
        # names that mmpretrain's transformers give to the class token and to the mean of the patches
        pooled = 'cls_token' if getattr(self.timm_model, 'global_pool', None) == 'token' else 'avg_featmap'
        self.out_type = out_type or pooled
        self._depth = timm_depth(self.timm_model)
        if _may_drop_patches(self.timm_model):
            rotary = self.timm_model.patch_drop is None
            self.timm_model.patch_drop = KeptPatches(self.num_extra_tokens, rotary)
        if self.out_type in self.OUT_TYPES:
            self._freeze_unused()

    def _freeze_unused(self) -> None:
        """No gradient for what timm has behind the map (a norm of the pooled feature): training would leave it out."""
        top = self.depth.num_blocks + 1
        late = [p for name, p in self.named_parameters() if self.depth.layer_id(name) == top]
        if late:
            with eval_mode(self), torch.enable_grad():
                found = torch.autograd.grad(self(self.example_image())[-1].sum(), late, allow_unused=True)
            for parameter, gradient in zip(late, found):
                parameter.requires_grad_(gradient is not None)

    def init_weights(self) -> None:
        """Read ``pretrained``; otherwise the weights stay as timm initialized them when it built the model."""
        self.is_init = True
        if self.pretrained:
            print_log(load_timm_weights(self.timm_model, self.pretrained), logger='current')

    # ---------------------------------------------------------------- properties
    @property
    def depth(self) -> Depth:
        """Which layer each parameter belongs to."""
        return self._depth

    @property
    def cls_token(self) -> torch.Tensor | None:
        """The class token, if there is one before the patches."""
        return getattr(self.timm_model, 'cls_token', None)

    @property
    def num_extra_tokens(self) -> int:
        """Tokens before the patches: class token and registers."""
        return int(getattr(self.timm_model, 'num_prefix_tokens', self.cls_token is not None))

    @property
    def ln2(self) -> nn.Module:
        """What follows the mean of the patches of a transformer."""
        return getattr(self.timm_model, 'fc_norm', nn.Identity())

    @property
    def img_size(self) -> tuple[int, int] | None:
        """(H, W) of the images in pixels for which the model was built; None if it was built for no size."""
        size = getattr(getattr(self.timm_model, 'patch_embed', None), 'img_size', None)
        return (int(size[0]), int(size[1])) if size else None

    @property
    def only_size(self) -> tuple[int, int] | None:
        """The same if the model takes images of no other size."""
        return self.img_size if getattr(self.timm_model.patch_embed, 'strict_img_size', False) else None

    @property
    def drops_patches(self) -> bool:
        """Whether patches can be left out: a ViT with a class token, with absolute or rotary positions."""
        return isinstance(getattr(self.timm_model, 'patch_drop', None), KeptPatches)

    @property
    def patch_resolution(self) -> tuple[int, int]:
        """Patches per column and per row of images of the construction size.

        Raises:
            AttributeError: If patches cannot be left out, so that the model has no such attribute.
        """
        self._need_patches('patch_resolution')
        rows, columns = self.timm_model.patch_embed.grid_size
        return int(rows), int(columns)

    @property
    def num_patches(self) -> int:
        """Patches of an image of the construction size; raises as :attr:`patch_resolution`."""
        return self.patch_resolution[0] * self.patch_resolution[1]

    @property
    def encode(self) -> Callable[..., torch.Tensor]:
        """``encode(x, keep=None)``: class token and patches [B, 1 + K, D] after the final norm.

        ``x`` is [B, C, H, W], ``keep`` [B, K] the patches to keep, in any order. Raises as :attr:`patch_resolution`.
        """
        self._need_patches('encode')
        return self._encode

    def _need_patches(self, name: str) -> None:
        if not self.drops_patches:
            raise AttributeError(f'{name}: {self.timm_call["model_name"]} of timm cannot leave out patches')

    @property
    def sizes(self) -> EncoderSizes:
        """Sizes that later parts need, see :class:`EncoderSizes`; those of a map are measured with an image."""
        model, in_channels = self.timm_model, self.timm_call['in_chans']
        if self.drops_patches and self.img_size:
            return EncoderSizes(
                model.num_features, in_channels, self.img_size[0] // self.patch_resolution[0], self.num_patches
            )
        if self.out_type not in self.OUT_TYPES:
            return EncoderSizes(getattr(model, 'head_hidden_size', model.num_features), in_channels, None)
        image = self.example_image()
        with eval_mode(self), torch.no_grad():
            feature = self(image)[-1]
        stride = image.shape[-1] // feature.shape[-1] if feature.dim() == 4 else None
        return EncoderSizes(feature.shape[1] if feature.dim() == 4 else feature.shape[-1], in_channels, stride)

    def example_image(self) -> torch.Tensor:
        """A black image [1, C, H, W] of a size that the model takes."""
        stated = self.timm_model.pretrained_cfg
        usual = stated.get('input_size') if stated.get('fixed_input_size') else None
        told = self.timm_call.get('img_size') or self.img_size or usual or _ANY_SIZE
        height, width = (told, told) if isinstance(told, int) else tuple(told)[-2:]
        parameter = next(self.parameters())
        return parameter.new_zeros(1, self.timm_call['in_chans'], height, width)

    # ---------------------------------------------------------------- features
    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> tuple[torch.Tensor]:
        """The feature that ``out_type`` names, as a tuple like that of other backbones.

        Args:
            x: [B, C, H, W] normalized images.
            keep: [B, K] indices of the patches that are seen; None shows all.

        Raises:
            ConfigError: If the model does not take images of this size, or cannot leave out patches.
        """
        features = self._features(x, keep)
        if self.out_type == 'raw':
            return (self.channels_first(features),)
        if self.out_type == 'featmap':
            if keep is not None:
                raise ConfigError(f'{type(self).__name__}: kept patches are no map; leave out_type out')
            return (self._map(features, x),)
        return (self.timm_model.forward_head(features, pre_logits=True),)

    def _encode(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        tokens = self._features(x, keep)
        return torch.cat([tokens[:, :1], tokens[:, self.num_extra_tokens :]], dim=1)

    def _features(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """What timm's ``forward_features`` gives for the patches that are seen."""
        if keep is not None and not self.drops_patches:
            raise ConfigError(f'{type(self).__name__}: {self.timm_call["model_name"]} cannot leave out patches')
        if self.drops_patches:
            self.timm_model.patch_drop.keep = keep
        try:
            return self.timm_model.forward_features(x)
        except AssertionError as error:  # timm's check of the size of images
            height, width = x.shape[-2:]
            raise ConfigError(
                f'{self.timm_call["model_name"]} of timm does not take images of {height} x {width} pixels ({error}); '
                'set img_size of the backbone, or options=dict(dynamic_img_size=True) of a ViT'
            ) from error
        finally:
            if self.drops_patches:
                self.timm_model.patch_drop.keep = None

    def channels_first(self, features: torch.Tensor) -> torch.Tensor:
        """A map [B, D, H, W] of any of the model's layers, whatever timm's order is there; tokens stay as they are."""
        last = features.dim() == 4 and str(getattr(self.timm_model, 'output_fmt', '')).endswith('NHWC')
        return features.permute(0, 3, 1, 2) if last else features

    def _map(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The map [B, D, H, W] of features of images [B, C, H, W]."""
        if features.dim() == 4:
            return self.channels_first(features)
        patches = features[:, self.num_extra_tokens :]  # [B, L, D]
        rows = isqrt(patches.shape[1] * x.shape[2] // x.shape[3])  # the grid has the shape of the image
        return patches.transpose(1, 2).unflatten(2, (rows, -1))


def create_timm_model(call: Mapping[str, Any]) -> nn.Module:
    """The model of timm without a classifier, with timm's initial weights.

    Args:
        call: ``model_name`` and further plain arguments of ``timm.create_model``.

    Raises:
        ConfigError: If timm has no such model or argument, or it is refused.
    """
    import timm  # takes a second, which configs with other backbones need not wait for

    name = call['model_name']
    if checked_timm_call(call) is None:
        raise ConfigError(
            f'TimmBackbone: {dict(call)} is not allowed: name must be an architecture without a tag of weights, '
            f'options plain values and none of {", ".join(REFUSED)}; weights are given by pretrained'
        )
    if not timm.is_model(name):
        raise ConfigError(
            f'TimmBackbone: timm {timm.__version__} has no {name!r}{did_you_mean(name, timm.list_models())}'
        )
    try:
        return timm.create_model(**call, num_classes=0)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f'TimmBackbone: timm cannot build {name} with {dict(call)}: {error}') from error


def _may_drop_patches(model: Any) -> bool:
    """Whether it is a ViT with a class token whose own patch dropout is off."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    own = isinstance(model, VisionTransformer | Eva) and isinstance(model.patch_drop, nn.Identity | None)
    return own and model.cls_token is not None and hasattr(model.patch_embed, 'grid_size')


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Within the block all modules are in eval mode, so that a pass leaves statistics as they are."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
