#!/usr/bin/env python
"""A2MIM (arXiv 2205.13943) in one file: no runner, no config file, plain PyTorch loops.

    python examples/a2mim.py [--epochs 20]

The same objective trains a ResNet and a ViT on scikit-learn's digits: blocks of the image take its mean color, a token
is added to the features there, and the reconstruction is compared in space and in frequency. Logistic regression on a
few labels per class scores each encoder before and after.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch
from mmpretrain.models import ResNet
from sklearn.datasets import load_digits
from torch import nn

from mmselfsup_graft import register_all_modules
from mmselfsup_graft.engine.schedulers import warmup_cosine_factor
from mmselfsup_graft.evaluation import FewShotProtocol, few_shot_accuracies
from mmselfsup_graft.registry import MODELS

BATCH, SIZE, BLOCK = 64, 16, 4  # images of a step, their side in pixels, side of a masked block


def resnet() -> nn.Module:
    """ResNet-18 of 8 to 64 channels; the token joins the input of its last stage, with a gain that starts near zero."""
    backbone = {'type': 'MaskedResNetCIFAR', 'depth': 18, 'in_channels': 1, 'stem_channels': 8, 'base_channels': 8}
    backbone |= {'strides': (2, 2, 1, 1), 'mask_layer': 3, 'mask_replace': False, 'mask_gain': 1e-6}
    head = {'type': 'A2MIMHead', 'mode': 'focal_l1', 'fft_weight': 0.5, 'fft_unmask_weight': 1e-3}
    return a2mim(backbone, 64, head)


def vit() -> nn.Module:
    """A ViT of 3 blocks; the token is added to the patches, in front of all blocks."""
    arch = {'embed_dims': 64, 'num_layers': 3, 'num_heads': 4, 'feedforward_channels': 256}
    backbone = {'type': 'MaskedViT', 'arch': arch, 'img_size': SIZE, 'patch_size': 4, 'in_channels': 1}
    backbone |= {'out_type': 'featmap', 'mask_replace': False}
    return a2mim(backbone, 64, {'type': 'A2MIMHead', 'mode': 'l1', 'fft_weight': 0.1})


def a2mim(backbone: dict, width: int, head: dict) -> nn.Module:
    """Encoder, one convolution that predicts 4 x 4 pixels from each position, loss."""
    neck = {'type': 'PixelShuffleNeck', 'in_channels': width, 'stride': 4, 'out_channels': 1}
    model = {'type': 'A2MIM', 'mask_patch': BLOCK, 'mask_ratio': 0.6, 'backbone': backbone, 'neck': neck, 'head': head}
    return MODELS.build(model)


def batches(images: torch.Tensor, epochs: int) -> Iterator[torch.Tensor]:
    """Shuffled batches [BATCH, 1, 16, 16] of ``epochs`` epochs."""
    for _ in range(epochs):
        yield from (images[index] for index in torch.randperm(len(images)).split(BATCH) if len(index) == BATCH)


def parameter_groups(model: nn.Module, lr: float) -> list[dict]:
    """No decay of vectors and tokens; in a convolutional network mask token and gain learn at a tenth of the rate."""
    tokens, slow = ('cls_token', 'mask_token', 'mask_gamma'), ('mask_token', 'mask_gamma')
    tenth = 0.1 if isinstance(model.backbone, ResNet) else 1.0
    return [
        {
            'params': [parameter],
            'weight_decay': 0.0 if parameter.ndim <= 1 or name.endswith(tokens) else 0.05,
            'peak': lr * (tenth if name.endswith(slow) else 1.0),
        }
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]


def train(model: nn.Module, images: torch.Tensor, epochs: int, lr: float = 2e-3) -> nn.Module:
    """AdamW with a warm-up of a tenth and a cosine."""
    model.train()
    optimizer = torch.optim.AdamW(parameter_groups(model, lr), lr=0.0, betas=(0.9, 0.999))
    steps, started = epochs * (len(images) // BATCH), time.time()
    for step, batch in enumerate(batches(images, epochs)):
        for group in optimizer.param_groups:
            group['lr'] = group['peak'] * warmup_cosine_factor(step, steps / 10, steps)
        losses = model.loss(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        if (step + 1) % max(1, steps // 5) == 0:
            left = (time.time() - started) / (step + 1) * (steps - step - 1)
            parts = ', '.join(f'{name} {value.item():.3f}' for name, value in losses.items())
            print(f'{type(model.backbone).__name__} {step + 1}/{steps}, {parts}, {left:.0f} s left')
    return model.eval()


@torch.no_grad()
def score(encoder: nn.Module, images: torch.Tensor, labels: np.ndarray) -> dict[int, float]:
    """Accuracy in per cent of logistic regression on few labels per class; the last 400 images are the test set."""
    encoder.eval()
    features = encoder(images)[-1].mean((2, 3)).numpy()  # [1797, D, 4, 4] averaged over places
    train_side, test_side = (features[:-400], labels[:-400]), (features[-400:], labels[-400:])
    few_shot = few_shot_accuracies(train_side, test_side, FewShotProtocol())
    return {shots: round(result['mean'], 1) for shots, result in few_shot.items()}


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--epochs', type=int, default=20)
    epochs = parser.parse_args().epochs
    if epochs < 1:
        parser.error('--epochs must be at least 1')
    register_all_modules()
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16  # [1797, 1, 8, 8]
    images = nn.functional.interpolate(images, size=SIZE, mode='bilinear')
    images = (images - images.mean()) / images.std()
    for name, build in {'ResNet': resnet, 'ViT': vit}.items():
        model = build()
        model.init_weights()
        print(name, 'random, accuracy in % by labels per class:', score(model.backbone, images, digits.target))
        train(model, images[:-400], epochs)
        print(name, 'A2MIM, accuracy in % by labels per class:', score(model.backbone, images, digits.target))
