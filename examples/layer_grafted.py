#!/usr/bin/env python
"""Layer Grafted Pre-training (arXiv 2302.14138) in one file: no runner, no config file, plain PyTorch loops.

    python examples/layer_grafted.py [--epochs 20]

Stage 1 trains a MAE on scikit-learn's digits, stage 2 a MoCo v3 that starts from the MAE's encoder and trains its
lower layers at a tenth of the rate; then logistic regression on a few labels per class scores both encoders.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torchvision.transforms import v2

from mmselfsup_graft import register_all_modules
from mmselfsup_graft.checkpoints import save_atomically
from mmselfsup_graft.engine.hooks import cosine_momentum
from mmselfsup_graft.engine.optimizers.layer_wise_lr import scales_from_list
from mmselfsup_graft.engine.schedulers import warmup_cosine_factor
from mmselfsup_graft.evaluation import FewShotProtocol, few_shot_accuracies
from mmselfsup_graft.registry import MODELS

BATCH, WIDTH, BLOCKS = 64, 64, 3
BACKBONE = {
    'type': 'SelfSupViT',
    'arch': {'embed_dims': WIDTH, 'num_layers': BLOCKS, 'num_heads': 4, 'feedforward_channels': 4 * WIDTH},
    'img_size': 16,
    'patch_size': 4,
    'in_channels': 1,
}
# one view of contrastive learning: shifted, turned, scaled, brighter or darker
AFFINE = v2.RandomAffine(degrees=12, translate=(0.15, 0.15), scale=(0.8, 1.1))
VIEW = v2.Compose([AFFINE, v2.ColorJitter(brightness=0.3, contrast=0.3)])


def mae() -> nn.Module:
    """Stage 1: encode a quarter of the patches, predict the pixels of the others."""
    decoder = {'type': 'MAEDecoder', 'num_patches': 16, 'patch_size': 4, 'in_chans': 1, 'embed_dim': WIDTH}
    decoder |= {'decoder_embed_dim': WIDTH, 'decoder_depth': 2, 'decoder_num_heads': 4}
    pixels = {'type': 'mmpretrain.PixelReconstructionLoss', 'criterion': 'L2'}
    head = {'type': 'mmpretrain.MAEPretrainHead', 'patch_size': 4, 'in_channels': 1, 'loss': pixels}
    return MODELS.build({'type': 'MAE', 'backbone': BACKBONE, 'neck': decoder, 'head': head})


def moco(graft: str) -> nn.Module:
    """Stage 2: both encoders start from the grafted one; its patch embedding stays as it is."""

    def mlp(inside: int, layers: int) -> dict:
        sizes = {'in_channels': inside, 'hid_channels': 256, 'out_channels': 64, 'num_layers': layers}
        plain = {'with_bias': False, 'with_last_bias': False, 'with_last_bn_affine': False, 'with_avg_pool': False}
        return {'type': 'mmpretrain.NonLinearNeck', 'norm_cfg': {'type': 'PortableSyncBN'}, **sizes, **plain}

    backbone = {**BACKBONE, 'init': 'mocov3', 'stop_grad_patch_embed': True}
    head = {'type': 'ContrastiveHead', 'temperature': 0.2, 'predictor': mlp(64, 2)}
    config = {'type': 'MoCoV3', 'backbone': backbone, 'neck': mlp(WIDTH, 3), 'head': head}
    return MODELS.build({**config, 'graft': [{'checkpoint': graft}]})


def batches(images: torch.Tensor, epochs: int) -> Iterator[torch.Tensor]:
    """Shuffled batches [BATCH, 1, 16, 16] of ``epochs`` epochs."""
    for _ in range(epochs):
        yield from (images[index] for index in torch.randperm(len(images)).split(BATCH) if len(index) == BATCH)


def parameter_groups(model: nn.Module, lr: float, layer_wise: list[float]) -> list[dict]:
    """One group per parameter, its peak rate by the layer it lies in; 1-D tensors are not decayed."""
    scales, groups = scales_from_list(layer_wise, model.depth.num_blocks), []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = name.startswith('backbone.')
            layer = model.depth.layer_id(name.removeprefix('backbone.')) if inside else model.depth.num_blocks + 1
            decay = 0.05 if parameter.ndim > 1 else 0.0
            groups.append({'params': [parameter], 'peak': lr * scales[layer], 'weight_decay': decay})
    return groups


def train(model: nn.Module, images: torch.Tensor, views: Callable, epochs: int, layer_wise: list[float]) -> nn.Module:
    """AdamW with a warm-up of a tenth and a cosine; the momentum of MoCo's second encoder rises from 0.99 to 1."""
    model.init_weights()
    model.train()
    optimizer = torch.optim.AdamW(parameter_groups(model, 2e-3, layer_wise), lr=0.0)
    steps, started = epochs * (len(images) // BATCH), time.time()
    for step, batch in enumerate(batches(images, epochs)):
        for group in optimizer.param_groups:
            group['lr'] = group['peak'] * warmup_cosine_factor(step, steps / 10, steps)
        model.momentum = cosine_momentum(0.99, step / steps)
        loss = model.loss(views(batch))['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % max(1, steps // 5) == 0:
            left = (time.time() - started) / (step + 1) * (steps - step - 1)
            print(f'{type(model).__name__} {step + 1}/{steps}, loss {loss.item():.3f}, {left:.0f} s left')
    return model.eval()


@torch.no_grad()
def score(model: nn.Module, images: torch.Tensor, labels: np.ndarray) -> dict[int, float]:
    """Accuracy in per cent of logistic regression on 1, 2, 5 labels per class; the last 400 images are the test set."""
    features = model.backbone(images)[-1].numpy()
    few_shot = few_shot_accuracies(
        (features[:-400], labels[:-400]), (features[-400:], labels[-400:]), FewShotProtocol()
    )
    return {shots: round(result['mean'], 1) for shots, result in few_shot.items()}


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--epochs', type=int, default=20, help='of each stage')
    epochs = parser.parse_args().epochs
    register_all_modules()
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16  # [1797, 1, 8, 8]
    images = nn.functional.interpolate(images, size=16, mode='bilinear')
    pool = images[:-400]  # trained on without labels
    mim = train(mae(), pool, lambda batch: batch, epochs, layer_wise=[1.0])
    with tempfile.TemporaryDirectory() as folder:
        save_atomically({'state_dict': mim.state_dict()}, f'{folder}/mim.pth')
        two_views = lambda batch: [torch.stack([VIEW(image) for image in batch]) for _ in range(2)]  # noqa: E731
        lgp = train(moco(f'{folder}/mim.pth'), pool, two_views, epochs, layer_wise=[0.1, 0.1, 1.0])
    for name, model in {'MIM': mim, 'LGP': lgp}.items():
        print(name, 'accuracy in % by labels per class:', score(model, images, digits.target))
