"""A small ViT as a dict of tensors under timm's names, and its features in plain torch: the reference of reading tests.

Nothing of the package is used. ``make`` gives the tensors of one architecture with random values; ``tokens`` is the
forward pass that its names stand for: layer scale, registers, norms of queries and keys, gated MLPs, a norm before
the blocks, positions with or without a row for the class token.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

State = dict[str, torch.Tensor]
WIDTH, HEADS, PATCH, GRID, CHANNELS, LAYERS = 64, 4, 4, (4, 4), 1, 3


def make(
    grid: tuple[int, int] = GRID,
    layers: int = LAYERS,
    scale: bool = False,
    registers: int = 0,
    qk_norm: bool = False,
    gated: bool = False,
    pre_norm: bool = False,
    class_row: bool = True,
    seed: int = 0,
    heads: int = HEADS,
) -> State:
    """Tensors of a ViT, no value special."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.1

    def linear(name: str, inside: int, outside: int) -> State:
        return {f'{name}.weight': rand(outside, inside), f'{name}.bias': rand(outside)}

    def norm(name: str, width: int = WIDTH) -> State:
        return {f'{name}.weight': 1 + rand(width), f'{name}.bias': rand(width)}

    state = {
        'cls_token': rand(1, 1, WIDTH),
        'pos_embed': rand(1, class_row + grid[0] * grid[1], WIDTH),
        'patch_embed.proj.weight': rand(WIDTH, CHANNELS, PATCH, PATCH),
    }
    if pre_norm:
        state |= norm('norm_pre')
    else:
        state['patch_embed.proj.bias'] = rand(WIDTH)
    if registers:
        state['register_tokens'] = rand(1, registers, WIDTH)
    for i in range(layers):
        block = f'blocks.{i}'
        state |= norm(f'{block}.norm1') | norm(f'{block}.norm2')
        state |= linear(f'{block}.attn.qkv', WIDTH, 3 * WIDTH) | linear(f'{block}.attn.proj', WIDTH, WIDTH)
        if qk_norm:
            state |= norm(f'{block}.attn.q_norm', WIDTH // heads) | norm(f'{block}.attn.k_norm', WIDTH // heads)
        if gated:
            hidden = 2 * WIDTH
            state |= linear(f'{block}.mlp.w12', WIDTH, 2 * hidden) | linear(f'{block}.mlp.w3', hidden, WIDTH)
        else:
            state |= linear(f'{block}.mlp.fc1', WIDTH, 4 * WIDTH) | linear(f'{block}.mlp.fc2', 4 * WIDTH, WIDTH)
        if scale:
            state |= {f'{block}.ls1.gamma': rand(WIDTH), f'{block}.ls2.gamma': rand(WIDTH)}
    return state | norm('norm')


def images(grid: tuple[int, int] = GRID, batch: int = 2) -> torch.Tensor:
    """Random images that are cut into this grid of patches."""
    generator = torch.Generator().manual_seed(9)
    return torch.randn(batch, CHANNELS, PATCH * grid[0], PATCH * grid[1], generator=generator)


def tokens(w: Mapping[str, torch.Tensor], x: torch.Tensor, heads: int = HEADS, eps: float = 1e-6) -> torch.Tensor:
    """All tokens after the last norm, [B, 1 + R + L, D]."""

    def norm(t: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(t, t.shape[-1:], w[f'{name}.weight'], w[f'{name}.bias'], eps)

    def linear(t: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(t, w[f'{name}.weight'], w[f'{name}.bias'])

    kernel = w['patch_embed.proj.weight']
    t = F.conv2d(x, kernel, w.get('patch_embed.proj.bias'), stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
    table, token = w['pos_embed'], w['cls_token'].expand(len(x), -1, -1)
    if table.shape[1] == t.shape[1]:
        t = torch.cat([token, t + table], 1)
    else:
        t = torch.cat([token, t], 1) + table
    registers = w.get('register_tokens', w.get('reg_token'))
    if registers is not None:
        t = torch.cat([t[:, :1], registers.expand(len(x), -1, -1), t[:, 1:]], 1)
    t = norm(t, 'norm_pre') if 'norm_pre.weight' in w else t
    i = 0
    while f'blocks.{i}.norm1.weight' in w:
        block = f'blocks.{i}'
        mixed = linear(norm(t, f'{block}.norm1'), f'{block}.attn.qkv').unflatten(-1, (3, heads, -1))
        q, k, v = mixed.permute(2, 0, 3, 1, 4)
        if f'{block}.attn.q_norm.weight' in w:
            q, k = norm(q, f'{block}.attn.q_norm'), norm(k, f'{block}.attn.k_norm')
        attention = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v
        t = t + w.get(f'{block}.ls1.gamma', 1.0) * linear(attention.transpose(1, 2).flatten(2), f'{block}.attn.proj')
        inner = norm(t, f'{block}.norm2')
        if f'{block}.mlp.w12.weight' in w:
            first, second = linear(inner, f'{block}.mlp.w12').chunk(2, -1)
            inner = linear(F.silu(first) * second, f'{block}.mlp.w3')
        else:
            inner = linear(F.gelu(linear(inner, f'{block}.mlp.fc1')), f'{block}.mlp.fc2')
        t = t + w.get(f'{block}.ls2.gamma', 1.0) * inner
        i += 1
    return norm(t, 'norm')


def feature(w: Mapping[str, torch.Tensor], x: torch.Tensor, heads: int = HEADS) -> torch.Tensor:
    """Class token after the last norm, [B, D]."""
    return tokens(w, x, heads)[:, 0]


def config(grid: tuple[int, int] = GRID, heads: int = HEADS, layers: int = LAYERS, **kwargs: Any) -> dict[str, Any]:
    """The SelfSupViT that takes the tensors of :func:`make`."""
    arch = {'embed_dims': WIDTH, 'num_layers': layers, 'num_heads': heads, 'feedforward_channels': 4 * WIDTH}
    size = PATCH * grid[0] if grid[0] == grid[1] else (PATCH * grid[0], PATCH * grid[1])
    return {
        'type': 'SelfSupViT',
        'arch': kwargs.pop('arch', arch),
        'img_size': size,
        'patch_size': PATCH,
        'in_channels': CHANNELS,
        **kwargs,
    }
