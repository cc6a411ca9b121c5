"""A vision transformer, all tokens through all blocks, with attention written out."""

from typing import Any

import torch
import torch.nn.functional as F


def logits(attention: Any, x: torch.Tensor) -> torch.Tensor:
    """Scaled products of queries and keys, [B, H, N, N]."""
    return _logits_and_values(attention, x)[0]


def _logits_and_values(attention: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    batch, count, width = x.shape
    mixed = F.linear(x, attention.qkv.weight, attention.qkv.bias)
    query, key, value = mixed.reshape(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    if hasattr(attention, 'q_norm'):
        query, key = attention.q_norm(query), attention.k_norm(key)
    return query @ key.transpose(-2, -1) / (width / attention.num_heads) ** 0.5, value


def block(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """``x + attention(norm(x))``, then ``x + MLP(norm(x))``, [B, N, D]."""
    products, value = _logits_and_values(layer.attn, layer.ln1(x))
    attended = (products.softmax(-1) @ value).transpose(1, 2).flatten(2)
    x = x + layer.attn.gamma1(layer.attn.proj(attended))
    (first, *_), second, *_ = layer.ffn.layers
    return x + layer.ffn.gamma2(second(F.gelu(first(layer.ln2(x)))))


def pick(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of every image, [B, K, D] at [B, K] of [B, L, D]."""
    return torch.stack([rows[chosen] for rows, chosen in zip(tokens, index)])


def embed(vit: Any, images: torch.Tensor, keep: torch.Tensor | None, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Tokens [B, 1 + R + K, D] as they enter the first block; a mask token stands at ``mask`` [B, L]."""
    patches = vit.patch_embed(images)[0]
    if mask is not None:
        patches = torch.where(mask[..., None].bool(), vit.mask_token, patches)
    table = vit.pos_embed
    if table.shape[1] != 1 + patches.shape[1]:  # images of another size
        side = round((table.shape[1] - 1) ** 0.5)
        grid = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        size = round(patches.shape[1] ** 0.5)
        grid = F.interpolate(grid.float(), size=(size, size), mode='bicubic', align_corners=False)  # as mmpretrain
        table = torch.cat([table[:, :1], grid.to(table.dtype).flatten(2).transpose(1, 2)], 1)
    patches = patches + table[:, 1:]
    if keep is not None:
        patches = pick(patches, keep)
    token = vit.cls_token
    if getattr(vit, 'cls_token_mlp', None) is not None:
        token = vit.cls_token_mlp.fc2(F.gelu(vit.cls_token_mlp.fc1(token)))
    leading = [token + table[:, :1], *([] if vit.register_tokens is None else [vit.register_tokens])]
    return torch.cat([*(each.repeat(len(images), 1, 1) for each in leading), patches], 1)


def block_outputs(vit: Any, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Class token and patches [B, 1 + K, D] after every block, the last ones after the final norm if there is one."""
    outputs = []
    for layer in vit.layers:
        tokens = block(layer, tokens)
        outputs.append(torch.cat([tokens[:, :1], tokens[:, 1 + vit.num_registers :]], 1))
    if vit.final_norm:
        outputs[-1] = vit.ln1(outputs[-1])
    return outputs


def encode(
    vit: Any, images: torch.Tensor, keep: torch.Tensor | None = None, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Class token and patches after the final norm, [B, 1 + K, D]."""
    return block_outputs(vit, embed(vit, images, keep, mask))[-1]


def feature(backbone: Any, images: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
    """What a projector takes: class token [B, D] of a ViT or its map [B, D, H, W]; the last map of another network."""
    if not hasattr(backbone, 'pos_embed'):
        return backbone(images)[-1]
    tokens = encode(backbone, images, keep)
    if backbone.out_type == 'cls_token':
        return tokens[:, 0]
    side = round((tokens.shape[1] - 1) ** 0.5)
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def shuffle(noise: torch.Tensor, mask_ratio: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Kept patches [B, K], those of the smallest noise [B, L], and 1 where a patch is hidden, [B, L]."""
    order = noise.argsort(1)
    keep = order[:, : int(noise.shape[1] * (1 - mask_ratio))]
    return keep, torch.ones_like(noise).scatter(1, keep, 0.0)


def fill_in(visible: torch.Tensor, keep: torch.Tensor, token: torch.Tensor, count: int) -> torch.Tensor:
    """Visible patches [B, K, D] at their places among ``count`` patches, the mask token elsewhere: [B, L, D]."""
    patches = token.to(visible.dtype).repeat(len(visible), count, 1)
    return patches.scatter(1, keep[..., None].expand_as(visible), visible)
