#!/usr/bin/env python
"""TEC (arXiv 2210.11016) in one file: no runner, no config file, plain PyTorch loops.

    python examples/tec.py [--epochs 20]

A MAE is trained on scikit-learn's digits. Then, for as many epochs again, it is trained on, or a new model learns from
its features and from where it looks. Logistic regression on a few labels per class scores all three encoders.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from mmselfsup_graft import register_all_modules
from mmselfsup_graft.checkpoints import convert, save_atomically
from mmselfsup_graft.engine.schedulers import warmup_cosine_factor
from mmselfsup_graft.evaluation import FewShotProtocol, few_shot_accuracies
from mmselfsup_graft.registry import MODELS

BATCH, WIDTH, BLOCKS = 64, 64, 3
VIT = {
    'arch': {'embed_dims': WIDTH, 'num_layers': BLOCKS, 'num_heads': 4, 'feedforward_channels': 4 * WIDTH},
    'img_size': 16,
    'patch_size': 4,
    'in_channels': 1,
}


def mae() -> nn.Module:
    """The base model: encode a quarter of the patches, predict the pixels of the others."""
    decoder = {'type': 'MAEDecoder', 'num_patches': 16, 'patch_size': 4, 'in_chans': 1, 'embed_dim': WIDTH}
    decoder |= {'decoder_embed_dim': WIDTH, 'decoder_depth': 2, 'decoder_num_heads': 4}
    pixels = {'type': 'mmpretrain.PixelReconstructionLoss', 'criterion': 'L2'}
    head = {'type': 'mmpretrain.MAEPretrainHead', 'patch_size': 4, 'in_channels': 1, 'loss': pixels}
    return MODELS.build({'type': 'MAE', 'backbone': {'type': 'SelfSupViT', **VIT}, 'neck': decoder, 'head': head})


def tec(base: str) -> nn.Module:
    """The new model: predict the base model's features, and the attention of 5 patches and the class token."""
    decoder = {'type': 'TECDecoder', 'num_patches': 16, 'embed_dim': WIDTH, 'depth': BLOCKS}
    decoder |= {'decoder_embed_dim': WIDTH, 'decoder_depth': 2, 'decoder_num_heads': 4}
    config = {'type': 'TEC', 'base_model': {**VIT, 'last_layers': 2, 'topk': 5}, 'base_checkpoint': base}
    config |= {'backbone': {'type': 'TECViT', **VIT}, 'neck': decoder, 'head': {'type': 'TECHead', 'tau': 1.8}}
    return MODELS.build(config)


def batches(images: torch.Tensor, epochs: int) -> Iterator[torch.Tensor]:
    """Shuffled batches [BATCH, 1, 16, 16] of ``epochs`` epochs."""
    for _ in range(epochs):
        yield from (images[index] for index in torch.randperm(len(images)).split(BATCH) if len(index) == BATCH)


def parameter_groups(model: nn.Module) -> list[dict]:
    """1-D tensors are not decayed, everything else is."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {'params': [p for p in trained if p.ndim > 1], 'weight_decay': 0.05},
        {'params': [p for p in trained if p.ndim <= 1], 'weight_decay': 0.0},
    ]


def train(model: nn.Module, images: torch.Tensor, epochs: int, lr: float = 2e-3) -> nn.Module:
    """AdamW with a warm-up of a tenth and a cosine."""
    model.train()
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=0.0, betas=(0.9, 0.95))
    steps, started = epochs * (len(images) // BATCH), time.time()
    for step, batch in enumerate(batches(images, epochs)):
        for group in optimizer.param_groups:
            group['lr'] = lr * warmup_cosine_factor(step, steps / 10, steps)
        losses = model.loss(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        if (step + 1) % max(1, steps // 5) == 0:
            left = (time.time() - started) / (step + 1) * (steps - step - 1)
            parts = ', '.join(f'{name} {value.item():.3f}' for name, value in losses.items())
            print(f'{type(model).__name__} {step + 1}/{steps}, {parts}, {left:.0f} s left')
    return model.eval()


@torch.no_grad()
def score(encoder: nn.Module, images: torch.Tensor, labels: np.ndarray) -> dict[int, float]:
    """Accuracy in per cent of logistic regression on few labels per class; the last 400 images are the test set."""
    features = encoder(images)[-1].numpy()
    train_side, test_side = (features[:-400], labels[:-400]), (features[-400:], labels[-400:])
    few_shot = few_shot_accuracies(train_side, test_side, FewShotProtocol())
    return {shots: round(result['mean'], 1) for shots, result in few_shot.items()}


def plain_vit(model: nn.Module) -> nn.Module:
    """What is published: the MLP's output as class token, no adaptor, no decoder."""
    encoder = MODELS.build({'type': 'SelfSupViT', **VIT})
    encoder.load_state_dict(convert({'state_dict': model.state_dict()}, 'the new model', 'mmpretrain').state)
    encoder.eval()
    return encoder


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--epochs', type=int, default=20, help='of the base model, and again of what follows it')
    epochs = parser.parse_args().epochs
    register_all_modules()
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16  # [1797, 1, 8, 8]
    images = nn.functional.interpolate(images, size=16, mode='bilinear')
    pool = images[:-400]  # trained on without labels
    base = mae()
    base.init_weights()
    train(base, pool, epochs)
    with tempfile.TemporaryDirectory() as folder:
        save_atomically({'state_dict': base.state_dict()}, f'{folder}/base.pth')
        new = tec(f'{folder}/base.pth')
        new.init_weights()
    train(new, pool, epochs)
    on = train(copy.deepcopy(base), pool, epochs)
    for name, encoder in {'base': base.backbone, 'trained on': on.backbone, 'TEC': plain_vit(new)}.items():
        print(name, 'accuracy in % by labels per class:', score(encoder, images, digits.target))
