"""Floating-point operations of an encoder and of a training step, counted while they run once on the CPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from mmselfsup_graft.analysis.fresh_model import fresh_model
from mmselfsup_graft.datasets.seeding import preserved_random_state
from mmselfsup_graft.datasets.transforms import build_pipeline
from mmselfsup_graft.errors import ConfigError
from mmselfsup_graft.evaluation.other_pipeline import image_size
from mmselfsup_graft.registry import SCOPE

_IMAGES = 2  # batch norm needs more than one
_LABEL = 0


@dataclass(frozen=True)
class Cost:
    """What one image costs. A multiplication and an addition are two operations; only matrix products, convolutions and
    attention are counted, which is nearly all.

    Attributes:
        views: (H, W) of each view in pixels.
        encoder: Operations of the encoder for one whole image of the first view's size; patches are not masked.
        forward: Operations of the loss, per image with all its views.
        step: Operations of loss and gradients, likewise.
        parameters: Part of the model -> its parameters; a momentum encoder is a part of its own.
        trained: Parameters that the optimizer changes.
    """

    views: Sequence[tuple[int, int]]
    encoder: int
    forward: int
    step: int
    parameters: Mapping[str, int]
    trained: int


def cost_of(cfg: Config) -> Cost:
    """The cost of a training config of this toolbox, with random images in the place of its data.

    Args:
        cfg: The config.

    Raises:
        ConfigError: If the config is of another library, or does not define the size of its images.
    """
    if cfg.get('default_scope') != SCOPE or cfg.get('train_dataloader') is None:
        raise ConfigError(
            'operations are counted of training configs of this toolbox (default_scope, train_dataloader)'
        )
    with preserved_random_state(), torch.random.fork_rng():
        torch.manual_seed(0)
        model = fresh_model(cfg)
        data = model.data_preprocessor(default_collate(_samples(cfg, model.backbone)), True)
        inputs = data['inputs']
        views = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        forward, step = _count_step(model, data)
        encoder = _count(model.backbone, views[0][:1])
    return Cost(
        [(int(view.shape[-2]), int(view.shape[-1])) for view in views],
        encoder,
        forward // _IMAGES,
        step // _IMAGES,
        {
            name: sum(value.numel() for value in part.parameters())
            for name, part in model.named_children()
            if _has(part)
        },
        sum(value.numel() for value in model.parameters() if value.requires_grad),
    )


def _has(part: nn.Module) -> bool:
    return any(True for _ in part.parameters())


def _samples(cfg: Config, backbone: Any) -> list[dict]:
    """Packed samples of random images, through the pipeline of the training data."""
    dataset = cfg.train_dataloader.dataset
    transform = Compose(build_pipeline([dict(step) for step in dataset.pipeline]))
    height, width = image_size(cfg, backbone)
    channels = cfg.model.backbone.get('in_channels', 3)
    random = np.random.default_rng(0)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return [
        transform({'img': random.integers(0, 256, shape, dtype=np.uint8), 'gt_label': _LABEL, 'sample_idx': number})
        for number in range(_IMAGES)
    ]


def _losses(model: Any, data: dict) -> Mapping[str, torch.Tensor]:
    base = getattr(model, 'base_model', None)
    if base is not None and hasattr(model, 'masked_losses'):  # a fresh base model costs the same as a loaded one
        return model.masked_losses(data['inputs'], base.targets(data['inputs']))
    return model(**data, mode='loss')


def _convolution_backward(
    grad: Any, images: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, wanted: Sequence[bool], **rest: Any,
) -> int:  # fmt: skip
    """Operations of the gradients of a convolution, from shapes: each of the two has as many as the forward pass.

    torch's own formula takes the gradient of the weight for that of a convolution without groups.
    """
    return sum(wanted[:2]) * conv_flop_count(images, weight, grad, transposed)


def _counter() -> FlopCounterMode:
    formulas = {torch.ops.aten.convolution_backward: _convolution_backward}
    return FlopCounterMode(display=False, custom_mapping=formulas)


def _count_step(model: Any, data: dict) -> tuple[int, int]:
    """Operations of the losses, and of losses and gradients."""
    # without the fused attention of CPUs, which is not counted
    with sdpa_kernel(SDPBackend.MATH), _counter() as counter:
        losses = _losses(model, data)
        forward = counter.get_total_flops()
        sum(value.mean() for name, value in losses.items() if 'loss' in name).backward()  # type: ignore[union-attr]
    return forward, counter.get_total_flops()


@torch.no_grad()
def _count(backbone: nn.Module, images: torch.Tensor) -> int:
    """Operations of an encoder in eval mode."""
    backbone.eval()  # returns None for mmpretrain's backbones
    with sdpa_kernel(SDPBackend.MATH), _counter() as counter:
        backbone(images)
    return counter.get_total_flops()
