"""The frozen base model of TEC, and what a model that learns from one has."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule

from mmselfsup_graft.checkpoints import GraftSource, depth_of, graft_weights, parse_graft, patch_grid, traits_of
from mmselfsup_graft.downloads.resolve import resolve_sources
from mmselfsup_graft.errors import CheckpointError, ConfigError
from mmselfsup_graft.models.backbones.tec_vit import Targets, TargetViT, TECViT
from mmselfsup_graft.models.foreign_weights import refuse_pretrained_init
from mmselfsup_graft.models.masking import check_image_size
from mmselfsup_graft.registry import MODELS, SCOPE


class FrozenBaseModel:
    """A pre-trained ViT and the file of its weights.

    It is not a module: its parameters are not those of the model that holds it, so they are not in checkpoints, not in
    the optimizer and not wrapped for several processes.

    Args:
        vit: The model.
        checkpoint: File with its weights, of any known format, ``zoo:NAME``, or ``dict(checkpoint=..., branch=...,
            format=...)`` as in a graft; None if there is none.

    Attributes:
        is_loaded: Whether :meth:`load` has read the weights.

    Raises:
        ConfigError: If ``checkpoint`` is something else.
    """

    def __init__(self, vit: TargetViT, checkpoint: str | dict | None) -> None:
        self.vit = vit
        self.is_loaded = False
        self._source = _parse_source(checkpoint)

    def load(self) -> None:
        """Read the weights, if there is a file.

        Raises:
            CheckpointError: If it does not hold every tensor of the model in its shape.
        """
        if not self._source:
            return
        vit = self.vit
        try:
            weights, report = graft_weights(
                resolve_sources(self._source),
                vit.state_dict(),
                depth_of(vit),
                grid=patch_grid(vit),
                traits=traits_of(vit),
            )
        except CheckpointError as error:
            raise CheckpointError(
                f'TEC, base model: {error} (model.base_checkpoint names the file, model.base_model.arch its sizes)'
            ) from error
        vit.load_state_dict(weights)
        self.is_loaded = True
        print_log(f'base model: {report.text()}', logger='current')

    def targets(self, images: torch.Tensor) -> Targets:
        """The model's predictions for images [B, C, H, W].

        Raises:
            ConfigError: If its weights were not read.
        """
        if not self.is_loaded:
            raise ConfigError(
                'TEC: no base model; set model.base_checkpoint to a pre-trained ViT and call init_weights()'
            )
        return self.vit.targets(images)

    def sizes(self) -> dict[str, Any]:
        """Arguments of a neck that follow from the model."""
        vit = self.vit
        return dict(target_dim=vit.embed_dims, target_num_heads=vit.num_heads, predict_attention=vit.topk is not None)

    def check(self, learner: TECViT) -> None:
        """Raise an error if image or patch size differ from those of the trained model.

        Raises:
            ConfigError: If they differ.
        """
        vit = self.vit
        if (learner.img_size, learner.patch_resolution) != (vit.img_size, vit.patch_resolution):
            raise ConfigError(
                f'TEC: the base model cuts images of {_pixels(vit.img_size)} into {_pixels(vit.patch_resolution)} '
                f'patches, the new one images of {_pixels(learner.img_size)} into {_pixels(learner.patch_resolution)}; '
                'give both the same image and patch size'
            )


class LearnsFromBaseModel(BaseModule):
    """Mixin for an algorithm that holds a base model as ``_base``; it stands before the other parents.

    The algorithm has ``masked_losses(inputs, targets, noise)``: what masked images predict of the base model's targets.
    """

    _base: FrozenBaseModel
    masked_losses: Callable[..., dict[str, torch.Tensor]]
    add_l1: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]

    @property
    def base_model(self) -> TargetViT:
        """The frozen base model."""
        return self._base.vit

    def loss(self, inputs: torch.Tensor, data_samples: Any = None, noise: torch.Tensor | None = None) -> dict:
        """``loss_feature`` and ``loss_attention`` of images [B, C, H, W]; ``noise`` as in ``masked_losses``.

        Raises:
            ConfigError: If there is no base model to learn from, or images of another size.
        """
        check_image_size(type(self).__name__, inputs, self.base_model.img_size)
        return self.add_l1(self.masked_losses(inputs, self._base.targets(inputs), noise))

    def init_weights(self) -> None:
        """Fresh weights and the graft as everywhere, then the base model's weights from its file, if there is one.

        Raises:
            CheckpointError: If the file does not hold every tensor of the base model in its shape.
        """
        super().init_weights()
        self._base.load()

    def _apply(self, fn: Callable, recurse: bool = True) -> 'LearnsFromBaseModel':
        """Move or convert the model, and the base model with it."""
        super()._apply(fn, recurse)
        self.base_model._apply(fn, recurse)
        return self


def build_part(owner: str, part: str, config: dict, kind: str) -> Any:
    """Build a network that must be of one class.

    Args:
        owner: Name of the algorithm, for messages.
        part: Name of its argument.
        config: Config of the network; ``type`` may be left out.
        kind: Name of the class.

    Raises:
        ConfigError: If the config names another class, or weights outside of a graft.
    """
    refuse_pretrained_init(config, owner)
    if config.get('type', kind).removeprefix(f'{SCOPE}.') != kind:
        raise ConfigError(f'{owner}: {part} must be a {kind}, got {config["type"]}')
    return MODELS.build({'type': kind, **config})


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
