"""Target-enhanced conditional pre-training."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.logging import print_log

from mmselfsup_graft.checkpoints import GraftSource, depth_of, graft_weights, parse_graft, patch_grid, traits_of
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.registry import MODELS, SCOPE

from ..backbones.tec_vit import Targets, TargetViT, TECViT
from ..fitting import fit
from ..foreign_weights import refuse_pretrained_init
from ..masking import PatchMask, check_image_size, check_square_grid, mask_from_noise
from ..necks.tec_decoder import TECPrediction
from .base import SelfSupAlgorithm


@MODELS.register_module()
class TEC(SelfSupAlgorithm):
    """A new model learns from a pre-trained base model through masked input (arXiv 2210.11016).

    The base model sees the whole image, the new one a quarter of its patches. From the outputs of all its blocks an
    adaptor and two small decoders predict the base model's features and rows of its last attention map.

    The base model is no part of the model's state: it is not in checkpoints, not in the optimiser and not wrapped for
    several processes, but moves with the model to its device.

    Args:
        base_model: Config of the base model, see :class:`TargetViT`.
        base_checkpoint: File with its weights, of any known format, or ``dict(checkpoint=..., branch=..., format=...)``
            as in a graft. Read by :meth:`init_weights`, also when a run is resumed. Of iBOT's and DINO's training files
            the teacher is taken. Without one the model can be built and its encoder used, but not trained. No shape
            tells how many attention heads the base model has: its ``arch`` must say so.
        neck: Config of adaptor and decoders, see :class:`TECDecoder`; what it must share with both models
            (``num_patches``, ``embed_dim``, ``depth``, ``target_dim``, ``target_num_heads``, ``predict_attention``)
            follows from them.
        mask_ratio: Share of patches that is hidden from the new model.
        **kwargs: See :class:`SelfSupAlgorithm`.

    Raises:
        ConfigError: If one of the two models is of another kind, both do not see images of the same size in the same
            patches, the neck is given other sizes, or the mask ratio hides none or all of the patches.
    """

    def __init__(
        self,
        base_model: dict,
        base_checkpoint: str | dict | None,
        backbone: dict,
        neck: dict,
        mask_ratio: float = 0.75,
        **kwargs: Any,
    ) -> None:
        refuse_pretrained_init([base_model, backbone], 'TEC')
        for owner, config, kind in (('base_model', base_model, 'TargetViT'), ('backbone', backbone, 'TECViT')):
            if config.get('type', kind).removeprefix(f'{SCOPE}.') != kind:
                raise ConfigError(f'TEC: {owner} must be a {kind}, got {config["type"]}')
        teacher: TargetViT = MODELS.build({'type': 'TargetViT', **base_model})
        encoder: TECViT = MODELS.build({'type': 'TECViT', **backbone})
        _check_sizes(encoder, teacher)
        check_square_grid('TEC', encoder.patch_resolution)
        neck = fit('TEC', 'neck', {'type': 'TECDecoder', **neck}, _neck_sizes(encoder, teacher))
        super().__init__(backbone=encoder, neck=neck, **kwargs)
        visible = int(self.backbone.num_patches * (1 - mask_ratio))
        if not 0 < visible < self.backbone.num_patches:
            raise ConfigError(f'TEC: mask_ratio={mask_ratio} leaves {visible} of {self.backbone.num_patches} patches')
        self.mask_ratio = mask_ratio
        self.base_source = _parse_source(base_checkpoint)
        self._base_is_loaded = False
        # in a list it is no submodule, so no part of state, parameters and wrappers
        self._base_model = [teacher]

    @property
    def base_model(self) -> TargetViT:
        """The frozen base model."""
        return self._base_model[0]

    def _apply(self, fn: Callable, recurse: bool = True) -> 'TEC':
        """Move or convert the model, and the base model with it."""
        super()._apply(fn, recurse)
        self.base_model._apply(fn, recurse)
        return self

    def init_weights(self) -> None:
        """Fresh weights and the graft as everywhere, and the base model's weights from its file, if the config has one.

        Raises:
            CheckpointError: If it does not hold every tensor of the base model in its shape.
        """
        super().init_weights()
        if not self.base_source:
            return
        teacher = self.base_model
        try:
            weights, report = graft_weights(
                self.base_source,
                teacher.state_dict(),
                depth_of(teacher),
                grid=patch_grid(teacher),
                traits=traits_of(teacher),
            )
        except CheckpointError as error:
            raise CheckpointError(
                f'TEC, base model: {error} (model.base_checkpoint names the file, model.base_model.arch its sizes)'
            ) from error
        teacher.load_state_dict(weights)
        self._base_is_loaded = True
        print_log(f'base model: {report.text()}', logger='current')

    def forward_masked(
        self, inputs: torch.Tensor, targets: Targets, noise: torch.Tensor | None = None
    ) -> tuple[TECPrediction, PatchMask]:
        """Predict the targets from the visible patches, for all patches.

        Args:
            inputs: [B, C, H, W] normalised images.
            targets: What the base model says about them; only which rows it chose is read.
            noise: [B, L] noise that decides what is hidden; None draws it.

        Returns:
            Predicted features and attention rows, and the mask.
        """
        mask = self.draw_mask(inputs, noise)
        latent = self.backbone.encode_blocks(inputs, mask.keep)  # [B, 1 + keep, depth * D]
        return self.neck(latent, mask.restore, targets.rows), mask

    def draw_mask(self, inputs: torch.Tensor, noise: torch.Tensor | None = None) -> PatchMask:
        """Which patches of images [B, C, H, W] are kept; ``noise`` [B, L] decides, None draws it."""
        if noise is None:
            noise = torch.rand(len(inputs), self.backbone.num_patches, device=inputs.device)
        return mask_from_noise(noise, self.mask_ratio)

    def masked_losses(
        self, inputs: torch.Tensor, targets: Targets, noise: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Losses of the predictions from the visible patches; arguments as in :meth:`forward_masked`."""
        if self.plain:
            prediction, mask = self.forward_masked(inputs, targets, noise)
            return self.head.loss(prediction, targets, mask.mask)
        mask = self.draw_mask(inputs, noise)
        latent = self.backbone.encode_blocks(inputs, mask.keep)  # [B, 1 + keep, depth * D]
        return self.head.hidden_loss(self.neck.predict_hidden(latent, mask, targets.rows), targets, mask.hidden)

    def loss(self, inputs: torch.Tensor, data_samples: Any = None, noise: torch.Tensor | None = None) -> dict:
        """``loss_feature`` and ``loss_attention`` of images [B, C, H, W]; ``noise`` as in :meth:`forward_masked`.

        Raises:
            ConfigError: If there is no base model to learn from, or images of another size.
        """
        if not self._base_is_loaded:
            raise ConfigError(
                'TEC: no base model to learn from; set model.base_checkpoint to a pre-trained ViT and call '
                'init_weights()'
            )
        check_image_size('TEC', inputs, self.backbone.img_size)
        targets = self.base_model.targets(inputs)
        return self.add_l1(self.masked_losses(inputs, targets, noise))


def _pixels(size: Sequence[int]) -> str:
    return ' x '.join(map(str, size))


def _parse_source(value: Any) -> list[GraftSource]:
    """The base model's file as a graft of the whole encoder; nothing if there is none."""
    if value is None:
        return []
    if not isinstance(value, str | dict):
        raise ConfigError(f'TEC: base_checkpoint takes a file or dict(checkpoint=...), got {value!r}')
    source = {'checkpoint': value} if isinstance(value, str) else value
    if source.get('layers') is not None:
        raise ConfigError('TEC: base_checkpoint takes no layers: a base model comes from one file')
    return parse_graft([source])


def _check_sizes(new: TECViT, base: TargetViT) -> None:
    if (new.img_size, new.patch_resolution) != (base.img_size, base.patch_resolution):
        raise ConfigError(
            f'TEC: the base model cuts images of {_pixels(base.img_size)} into {_pixels(base.patch_resolution)} '
            f'patches, the new one images of {_pixels(new.img_size)} into {_pixels(new.patch_resolution)}; give both '
            'the same image and patch size'
        )


def _neck_sizes(new: TECViT, base: TargetViT) -> dict[str, Any]:
    """Arguments of the neck that follow from both models."""
    return dict(
        num_patches=new.num_patches,
        embed_dim=new.embed_dims,
        depth=new.num_layers,
        target_dim=base.embed_dims,
        target_num_heads=base.num_heads,
        predict_attention=base.topk is not None,
    )
