"""TEC (arXiv 2210.11016): features and attention rows of a base model, predicted from the visible patches."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from . import vit


class Targets(NamedTuple):
    """Of the base model: features [B, L, C], chosen rows [B, K], their logits [B, 1 + K, H, L]."""

    feature: torch.Tensor
    rows: torch.Tensor | None
    attention: torch.Tensor | None


@torch.no_grad()
def targets(base: Any, images: torch.Tensor) -> Targets:
    """What the base model says about whole images."""
    tokens, skip, outputs = vit.embed(base, images, None), 1 + base.num_registers, []
    for layer in base.layers:
        maps = vit.logits(layer.attn, layer.ln1(tokens))  # [B, H, N, N]; those of the last block remain
        tokens = vit.block(layer, tokens)
        outputs.append(tokens[:, skip:])
    feature = torch.stack(outputs[-base.last_layers :]).mean(0)
    if base.topk is None:
        return Targets(feature, None, None)
    rows = maps[:, :, 0, skip:].mean(1).topk(base.topk, dim=1).indices
    wanted = [torch.cat([one[:, :1], one[:, skip + chosen]], 1) for one, chosen in zip(maps, rows)]
    return Targets(feature, rows, torch.stack(wanted)[..., skip:].transpose(1, 2))


def adapt(adaptor: Any, latent: torch.Tensor) -> torch.Tensor:
    """Conditional adaptor: chunks of blocks, each through a linear layer and an MLP with a residual, summed."""
    total = 0.0
    for linear, mlp, chunk in zip(adaptor.fuse, adaptor.mlps, adaptor.norm_before(latent).chunk(len(adaptor.fuse), -1)):
        u = linear(chunk)
        total = total + u + mlp.fc2(F.gelu(mlp.fc1(u)))
    return adaptor.norm_after(total)


def decode(neck: Any, branch: Any, adapted: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """One decoder: [B, 1 + K, D] -> its output for class token and all patches, in the order of the image."""
    tokens = branch.embed(adapted)
    patches = vit.fill_in(tokens[:, 1:], keep, branch.mask_token, neck.side**2)
    tokens = torch.cat([tokens[:, :1], patches], 1) + neck.pos_embed
    for layer in neck.blocks:
        tokens = vit.block(layer, tokens)
    return branch.head(branch.norm(tokens))


def predict(model: Any, images: torch.Tensor, rows: torch.Tensor | None, noise: torch.Tensor) -> tuple[Any, Any, Any]:
    """Features [B, L, C] of all patches, logits [B, 1 + K, H, L] of the rows or None, and the mask [B, L]."""
    neck = model.neck
    keep, mask = vit.shuffle(noise, model.mask_ratio)
    outputs = vit.block_outputs(model.backbone, vit.embed(model.backbone, images, keep))
    adapted = adapt(neck.adaptor, torch.cat(outputs, -1))
    feature = decode(neck, neck.feature, adapted, keep)[:, 1:]
    if rows is None:
        return feature, None, mask
    mixed = decode(neck, neck.attention, adapted, keep)  # [B, 1 + L, 2 C]
    query, key = mixed.unflatten(-1, (2, neck.target_num_heads, -1)).permute(2, 0, 3, 1, 4)
    maps = query @ key.transpose(-2, -1) * neck.attention_scale  # [B, H, 1 + L, 1 + L]
    wanted = [torch.cat([one[:, :1], one[:, 1 + chosen]], 1) for one, chosen in zip(maps, rows)]
    return feature, torch.stack(wanted)[..., 1:].transpose(1, 2), mask


def feature_loss(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Squared difference to the target, normalized over the patches, on the hidden ones."""
    target = (target - target.mean(1, keepdim=True)) / (target.var(1, keepdim=True) + 1e-6).sqrt()
    return ((prediction - target).square().mean(-1) * mask).sum() / mask.sum()


def losses(model: Any, images: torch.Tensor, noise: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """``loss_feature`` and, if there are rows, ``loss_attention``."""
    wanted = targets(model.base_model, images)
    noise = torch.rand(len(images), model.backbone.num_patches, device=images.device) if noise is None else noise
    return masked_losses(model, images, wanted, noise)


def masked_losses(model: Any, images: torch.Tensor, wanted: Any, noise: torch.Tensor) -> dict[str, torch.Tensor]:
    """The losses for given targets."""
    feature, attention, mask = predict(model, images, wanted.rows, noise)
    head, dtype = model.head, images.dtype
    with torch.autocast(images.device.type, enabled=False):
        difference = feature_loss(feature.to(dtype), wanted.feature.to(dtype), mask.to(dtype))
        found = {'loss_feature': head.feature_weight * difference}
        if attention is not None:
            shares = (wanted.attention.to(dtype) / head.tau).softmax(-1)
            cross_entropy = -(shares * attention.to(dtype).log_softmax(-1)).sum(-1).mean()
            found['loss_attention'] = head.attention_weight * cross_entropy
    return found
