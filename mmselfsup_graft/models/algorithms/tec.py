"""Target-enhanced conditional pre-training."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.logging import print_log

from mmselfsup_graft.checkpoints import depth_of, graft_weights, parse_graft
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.registry import MODELS

from ..backbones.tec_vit import Targets, TargetViT
from ..foreign_weights import refuse_pretrained_init
from ..masking import PatchMask, mask_from_noise
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
            the teacher is taken.
        mask_ratio: Share of patches that is hidden from the new model.
        **kwargs: See :class:`SelfSupAlgorithm`; the neck's ``target_dim``, ``target_num_heads`` and
            ``predict_attention`` follow from the base model unless they are given.

    Raises:
        ConfigError: If both models do not cut images into equally many patches, or the mask ratio hides none or all.
    """

    def __init__(
        self,
        base_model: dict,
        base_checkpoint: str | dict | None,
        neck: dict,
        mask_ratio: float = 0.75,
        **kwargs: Any,
    ) -> None:
        refuse_pretrained_init(base_model, 'TEC')
        teacher: Any = MODELS.build({'type': 'TargetViT', **base_model})
        if not isinstance(teacher, TargetViT):
            raise ConfigError(f'TEC: base_model must be a TargetViT, got {type(teacher).__name__}')
        follows = dict(target_dim=teacher.embed_dims, target_num_heads=teacher.num_heads)
        super().__init__(neck={**follows, 'predict_attention': teacher.topk is not None, **neck}, **kwargs)
        if not hasattr(self.backbone, 'encode_blocks'):
            raise ConfigError(f'TEC needs a TECViT backbone, got {type(self.backbone).__name__}')
        if self.backbone.num_patches != teacher.num_patches:
            raise ConfigError(
                f'TEC: the base model cuts images into {teacher.num_patches} patches, the new one into '
                f'{self.backbone.num_patches}; give both the same image and patch size'
            )
        visible = int(self.backbone.num_patches * (1 - mask_ratio))
        if not 0 < visible < self.backbone.num_patches:
            raise ConfigError(f'TEC: mask_ratio={mask_ratio} leaves {visible} of {self.backbone.num_patches} patches')
        self.mask_ratio = mask_ratio
        source = base_checkpoint if isinstance(base_checkpoint, dict) else {'checkpoint': base_checkpoint}
        self.base_source = parse_graft([source]) if source.get('checkpoint') else []
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
        """Fresh weights and the graft as everywhere, and the base model's weights from its file.

        Raises:
            ConfigError: If there is no such file in the config.
            CheckpointError: If it does not hold every tensor of the base model in its shape.
        """
        super().init_weights()
        if not self.base_source:
            raise ConfigError('TEC: no base model to learn from; set model.base_checkpoint to a pre-trained ViT')
        teacher = self.base_model
        weights, report = graft_weights(
            self.base_source, teacher.state_dict(), depth_of(teacher), grid=teacher.patch_resolution
        )
        teacher.load_state_dict(weights)
        print_log(f'base model: {report.text()}', logger='current')

    def forward_masked(
        self, inputs: torch.Tensor, targets: Targets, noise: torch.Tensor | None = None
    ) -> tuple[TECPrediction, PatchMask]:
        """Predict the targets from the visible patches.

        Args:
            inputs: [B, C, H, W] normalised images.
            targets: What the base model says about them; only which rows it chose is read.
            noise: [B, L] noise that decides what is hidden; None draws it.
        """
        if noise is None:
            noise = torch.rand(len(inputs), self.backbone.num_patches, device=inputs.device)
        mask = mask_from_noise(noise, self.mask_ratio)
        latent = self.backbone.encode_blocks(inputs, mask.keep)  # [B, 1 + keep, depth * D]
        return self.neck(latent, mask.restore, targets.rows), mask

    def loss(self, inputs: torch.Tensor, data_samples: Any = None, noise: torch.Tensor | None = None) -> dict:
        """Losses of images [B, C, H, W]; ``noise`` as in :meth:`forward_masked`."""
        targets = self.base_model.targets(inputs)
        prediction, mask = self.forward_masked(inputs, targets, noise)
        return self.add_l1(self.head.loss(prediction, targets, mask.mask))
