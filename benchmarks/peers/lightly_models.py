"""MAE, MoCo v2, MoCo v3 and SwAV built from lightly's parts as in its examples; it has no class for them."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from harness.task import Missing, Settings
from torch import nn

from .mm_configs import SIDE, TINY_PROTOTYPES, TINY_SIDE, view_sides

_NOTE = 'put together from its parts, fused optimizer'
_SIZES = {  # width, blocks, heads of MAE, heads of MoCo v3
    'tiny': (48, 3, 3, 3),
    'vit-s': (384, 12, 6, 12),
    'vit-b': (768, 12, 12, 12),
    'vit-l': (1024, 24, 16, 16),
}


def lightly_step(algorithm: str, size: str, settings: Settings) -> tuple[Callable[[], Any], str]:
    """A training step and a note.

    Raises:
        Missing: If lightly or timm is not installed.
    """
    try:
        import lightly.models.modules  # noqa: F401
        import timm  # noqa: F401
    except ImportError as error:
        raise Missing(f'{error.name} is not installed: bash tools/install.sh --benchmarks') from error
    if algorithm == 'swav':
        return _swav_step(size == 'tiny', settings), 'put together from its parts, its LARS'
    width, blocks, mae_heads, moco_heads = _SIZES.get(size, (0, 0, 0, 0))
    side = 64 if size == 'tiny' else 224
    tiny = size == 'tiny'
    model: nn.Module
    if algorithm == 'moco':
        model = _MoCo(18 if tiny else 50)
    elif algorithm == 'mae':
        decoder = (48, 1, 3) if tiny else (512, 8, 16)
        model = _MAE(_timm_vit(side, width, blocks, mae_heads), *decoder)
        rate, betas, decay = 2.4e-3, (0.9, 0.95), 0.05
    else:
        hidden, out = (64, 32) if tiny else (4096, 256)
        model = _MoCoV3(_timm_vit(side, width, blocks, moco_heads), width, hidden, out)
        rate, betas, decay = 2.4e-3, (0.9, 0.999), 0.1
    model.to(settings.device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer: torch.optim.Optimizer
    if algorithm == 'moco':
        optimizer = torch.optim.SGD(trained, lr=0.03, momentum=0.9, weight_decay=1e-4, fused=True)
    else:
        optimizer = torch.optim.AdamW(trained, lr=rate, betas=betas, weight_decay=decay, fused=True)
    return _step(model, optimizer, [side] * (1 if algorithm == 'mae' else 2), settings), _NOTE


def _step(model: nn.Module, optimizer: Any, sides: list[int], settings: Settings) -> Callable[[], Any]:
    """A step on noise with views of these sides."""
    views = [
        torch.randint(0, 256, (settings.batch_size, 3, side, side), dtype=torch.uint8, device=settings.device)
        for side in sides
    ]
    mean = torch.tensor([123.675, 116.28, 103.53], device=settings.device).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375], device=settings.device).view(3, 1, 1)

    def step() -> None:
        images = [(view.float() - mean) / std for view in views]
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.precision == 'bf16'):
            loss = model(*images)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _swav_step(tiny: bool, settings: Settings) -> Callable[[], Any]:
    from lightly.utils.lars import LARS

    sides = view_sides('swav', TINY_SIDE if tiny else SIDE)
    model = _SwAV(tiny).to(settings.device).train()
    return _step(model, LARS(model.parameters(), lr=4.8, momentum=0.9, weight_decay=1e-6), sides, settings)


def _timm_vit(side: int, width: int, blocks: int, heads: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=side, patch_size=16, embed_dim=width, depth=blocks, num_heads=heads, num_classes=0
    )


class _MAE(nn.Module):
    """Encoder and decoder of lightly, target normalized per patch."""

    def __init__(self, vit: Any, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM

        self.patch = vit.patch_embed.patch_size[0]
        self.encoder = MaskedVisionTransformerTIMM(vit=vit)
        self.decoder = MAEDecoderTIMM(
            num_patches=vit.patch_embed.num_patches,
            patch_size=self.patch,
            embed_dim=vit.embed_dim,
            decoder_embed_dim=width,
            decoder_depth=blocks,
            decoder_num_heads=heads,
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        from lightly.models import utils

        size = (len(images), self.encoder.sequence_length)
        keep, hidden = utils.random_token_mask(size, mask_ratio=0.75, device=images.device)
        latent = self.decoder.embed(self.encoder.encode(images=images, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, size)
        tokens = utils.set_at_index(tokens, keep, latent.type_as(tokens))
        decoded = utils.get_at_index(self.decoder.decode(tokens), hidden)
        prediction = self.decoder.predict(decoded).float()
        target = utils.get_at_index(utils.patchify(images, self.patch), hidden - 1)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        return nn.functional.mse_loss(prediction, target)


class _MoCo(nn.Module):
    """ResNets of torchvision; projectors, moving average, memory bank and loss of lightly."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        import torchvision
        from lightly.loss import NTXentLoss
        from lightly.models.modules.heads import MoCoProjectionHead

        self.backbone = getattr(torchvision.models, f'resnet{depth}')()
        width = self.backbone.fc.in_features
        self.backbone.fc = nn.Identity()
        self.projector = MoCoProjectionHead(width, 2048, 128)
        self.followers = nn.ModuleList([deepcopy(self.backbone), deepcopy(self.projector)]).requires_grad_(False)
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(65536, 128))

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        from lightly.models.utils import update_momentum

        queries = self.projector(self.backbone(first))
        with torch.no_grad():
            update_momentum(self.backbone, self.followers[0], 0.999)
            update_momentum(self.projector, self.followers[1], 0.999)
            keys = self.followers[1](self.followers[0](second))
        return self.criterion(queries, keys)


class _MoCoV3(nn.Module):
    """Encoders of timm, heads and moving average of lightly; momentum fixed, patch embedding frozen."""

    def __init__(self, vit: Any, width: int, hidden: int, out: int) -> None:
        super().__init__()
        from lightly.models.modules.heads import MoCoProjectionHead

        vit.patch_embed.requires_grad_(False)
        vit.pos_embed.requires_grad_(False)
        self.backbone = vit
        self.projector = MoCoProjectionHead(width, hidden, out, num_layers=3, batch_norm=True)
        self.predictor = MoCoProjectionHead(out, hidden, out, num_layers=2, batch_norm=True)
        self.followers = nn.ModuleList([deepcopy(self.backbone), deepcopy(self.projector)]).requires_grad_(False)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        from lightly.models.utils import update_momentum

        queries = [self.predictor(self.projector(self.backbone(view))) for view in (first, second)]
        with torch.no_grad():
            update_momentum(self.backbone, self.followers[0], 0.99)
            update_momentum(self.projector, self.followers[1], 0.99)
            keys = [self.followers[1](self.followers[0](view)) for view in (first, second)]
        return _one_sided(queries[0], keys[1]) + _one_sided(queries[1], keys[0])


def _one_sided(query: torch.Tensor, key: torch.Tensor, temperature: float = 0.2) -> torch.Tensor:
    """MoCo v3's loss of one direction, in torch: lightly's NT-Xent also compares queries with queries."""
    logits = nn.functional.normalize(query.float(), dim=1) @ nn.functional.normalize(key.float(), dim=1).T
    truth = torch.arange(len(logits), device=logits.device)
    return nn.functional.cross_entropy(logits / temperature, truth) * (2 * temperature)


class _SwAV(nn.Module):
    """ResNet of torchvision; projector, prototypes and loss of lightly. Every crop passes alone, as in its example."""

    def __init__(self, tiny: bool) -> None:
        super().__init__()
        from lightly.loss import SwaVLoss
        from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes
        from torchvision.models import resnet18, resnet50

        self.backbone = (resnet18 if tiny else resnet50)()
        width, hidden, out = (512, 64, 32) if tiny else (2048, 2048, 128)
        self.backbone.fc = nn.Identity()
        self.projector = SwaVProjectionHead(width, hidden, out)
        self.prototypes = SwaVPrototypes(out, TINY_PROTOTYPES if tiny else 3000)
        self.criterion = SwaVLoss()

    def forward(self, *crops: torch.Tensor) -> torch.Tensor:
        self.prototypes.normalize()
        scores = []
        for crop in crops:
            z = nn.functional.normalize(self.projector(self.backbone(crop)), dim=1, p=2)
            scores.append(self.prototypes(z))
        return self.criterion(scores[:2], scores[2:])
