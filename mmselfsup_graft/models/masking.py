"""Random masking: patch tokens left out (MAE), blocks of pixels that a token replaces (SimMIM) or joins (A2MIM)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from mmselfsup_graft.errors import ConfigError


class PatchMask(NamedTuple):
    """Which patches are kept.

    Attributes:
        keep: [B, K] indices of the kept patches, in shuffled order.
        restore: [B, L] position of every patch in the order "kept, then dropped".
        mask: [B, L] 0 where a patch is kept, 1 where it is hidden.
        hidden: [B, L - K] indices of the hidden patches, in shuffled order.
    """

    keep: torch.Tensor
    restore: torch.Tensor
    mask: torch.Tensor
    hidden: torch.Tensor

    @property
    def order(self) -> torch.Tensor:
        """[B, L] indices of all patches, the kept ones first."""
        return torch.cat([self.keep, self.hidden], dim=1)


def check_image_size(owner: str, images: torch.Tensor, size: Sequence[int]) -> None:
    """Raise an error for images [B, C, H, W] of another size than that of a model, as patches would differ.

    Args:
        owner: Name of the caller, for the message.
        images: The images.
        size: (H, W) of the model.

    Raises:
        ConfigError: If the sizes differ.
    """
    if tuple(images.shape[-2:]) != tuple(size):
        given, wanted = (' x '.join(map(str, each)) for each in (images.shape[-2:], size))
        raise ConfigError(f'{owner}: images of {given} for a model of {wanted}; crop them to its size')


def check_square_grid(owner: str, grid: Sequence[int]) -> None:
    """Raise an error for a non-square grid of patches, as the decoder assumes a square.

    Args:
        owner: Name of the caller, for the message.
        grid: Patches per column and per row.

    Raises:
        ConfigError: If they differ.
    """
    if grid[0] != grid[1]:
        raise ConfigError(f'{owner}: the decoder needs a square grid of patches, got {grid[0]} x {grid[1]}')


def check_mask_ratio(owner: str, mask_ratio: float, num_patches: int) -> None:
    """Raise an error for a share that hides no or all patches.

    Raises:
        ConfigError: If it does.
    """
    visible = int(num_patches * (1 - mask_ratio))
    if not 0 < visible < num_patches:
        raise ConfigError(f'{owner}: mask_ratio={mask_ratio} leaves {visible} of {num_patches} patches')


def mask_from_noise(noise: torch.Tensor, mask_ratio: float) -> PatchMask:
    """Keep the ``int(L * (1 - mask_ratio))`` patches with the smallest noise (He et al., MAE, arXiv 2111.06377).

    Args:
        noise: [B, L] uniform noise.
        mask_ratio: Share of patches to hide, in [0, 1).
    """
    num_keep = int(noise.shape[1] * (1 - mask_ratio))
    shuffle = noise.argsort(dim=1)
    restore = shuffle.argsort(dim=1)
    mask = (restore >= num_keep).to(noise.dtype)
    return PatchMask(shuffle[:, :num_keep], restore, mask, shuffle[:, num_keep:])


def draw_patch_mask(
    owner: str, images: torch.Tensor, encoder: Any, mask_ratio: float, noise: torch.Tensor | None = None
) -> PatchMask:
    """A random mask of the patches of images [B, C, H, W], see :func:`mask_from_noise`.

    Args:
        owner: Name of the caller, for the message.
        images: The images.
        encoder: The ViT that cuts them into patches.
        mask_ratio: Share of patches to hide.
        noise: [B, L]; None draws it.

    Raises:
        ConfigError: For images of another size than the encoder's.
    """
    check_image_size(owner, images, encoder.img_size)
    if noise is None:
        noise = torch.rand(len(images), encoder.num_patches, device=images.device)
    return mask_from_noise(noise, mask_ratio)


def mask_from_cells(hidden: torch.Tensor) -> PatchMask:
    """A given mask as PatchMask, kept patches in order.

    Args:
        hidden: [B, L] 1 where a patch is hidden, 0 elsewhere; the same number in every row.
    """
    num_keep = hidden.shape[1] - int(hidden[0].sum())
    order = hidden.argsort(dim=1, stable=True)
    return PatchMask(order[:, :num_keep], order.argsort(dim=1), hidden, order[:, num_keep:])


def groups_of_masks(hidden: torch.Tensor) -> list[tuple[torch.Tensor, PatchMask]]:
    """Given masks [B, L], 1 = hidden, grouped by the number of hidden patches: indices of images, and their masks."""
    counts = hidden.sum(1)
    rows = [(counts == count).nonzero()[:, 0] for count in counts.unique()]
    return [(each, mask_from_cells(hidden[each])) for each in rows]


def take_tokens(tokens: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Tokens [B, K, D] of every row at the places ``index`` [B, K], from [B, L, D]."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def take_patches(images: torch.Tensor, patch: tuple[int, int], index: torch.Tensor) -> torch.Tensor:
    """Pixels of some patches, without copying the others.

    Args:
        images: [B, C, H, W].
        patch: Height and width of a patch, divisors of H and W.
        index: [B, K] numbers of patches, row by row.

    Returns:
        [B, K, C, height, width].
    """
    cells = images.unflatten(3, (-1, patch[1])).unflatten(2, (-1, patch[0])).permute(0, 2, 4, 1, 3, 5)
    columns = cells.shape[2]  # cells: [B, rows, columns, C, height, width]
    image = torch.arange(len(images), device=index.device)[:, None]
    return cells[image, index // columns, index % columns]


def block_grid(image_size: tuple[int, int], mask_patch: int) -> tuple[int, int]:
    """Rows and columns of the grid of square blocks that SimMIM hides.

    Args:
        image_size: (H, W) of the images in pixels.
        mask_patch: Side of a block in pixels.

    Raises:
        ConfigError: If the blocks do not tile the image.
    """
    height, width = image_size
    if height % mask_patch or width % mask_patch:
        raise ConfigError(
            f'mask_patch={mask_patch} does not divide images of {height}x{width} pixels; choose a divisor of both sides'
        )
    return height // mask_patch, width // mask_patch


def count_hidden_blocks(mask_ratio: float, total: int) -> int:
    """``ceil(mask_ratio * total)``, how many of an image's blocks are hidden.

    Raises:
        ConfigError: If that is none or all of them.
    """
    count = math.ceil(mask_ratio * total)
    if not 0 < count < total:
        raise ConfigError(
            f'mask_ratio={mask_ratio} hides {count} of the {total} blocks of an image, which leaves nothing to learn; '
            'change mask_ratio or mask_patch'
        )
    return count


def block_mask_from_noise(noise: torch.Tensor, mask_ratio: float) -> torch.Tensor:
    """Hide the ``ceil(mask_ratio * H * W)`` blocks with the smallest noise (Xie et al., SimMIM, arXiv 2111.09886).

    Args:
        noise: [B, H, W] uniform noise on the grid of blocks.
        mask_ratio: Share of blocks to hide, rounded up.

    Returns:
        [B, H, W] of the noise's type, 1 where a block is hidden.

    Raises:
        ConfigError: If that hides none or all of the blocks.
    """
    count = count_hidden_blocks(mask_ratio, noise[0].numel())
    hidden = noise.flatten(1).argsort(dim=1)[:, :count]
    return torch.zeros_like(noise).flatten(1).scatter_(1, hidden, 1.0).view_as(noise)


def expand_mask(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Repeat the cells of a mask up to a finer grid.

    Args:
        mask: [B, h, w].
        size: (H, W) to reach, whole multiples of h and w.

    Returns:
        [B, 1, H, W], of the mask's type.

    Raises:
        ConfigError: If the finer grid is not a multiple of the mask's.
    """
    (h, w), (height, width) = mask.shape[-2:], size
    if height % h or width % w:
        raise ConfigError(
            f'a mask of {h}x{w} blocks does not fit a map of {height}x{width}: mask_patch must be a multiple of the '
            'stride at which the mask acts'
        )
    return mask.repeat_interleave(height // h, 1).repeat_interleave(width // w, 2)[:, None]


def masked_positions(mask: torch.Tensor, blocks: int, size: tuple[int, int]) -> torch.Tensor:
    """Numbers of the masked positions of a feature map, row by row, ascending.

    Args:
        mask: [B, h, w], 1 = masked.
        blocks: How many are masked in every image; read off the mask it would make a GPU wait.
        size: (H, W) of the map, whole multiples of h and w.

    Returns:
        [B, M] with ``M = blocks * H * W / (h * w)``.

    Raises:
        ConfigError: If the map is not a multiple of the mask.
    """
    cells = expand_mask(mask, size).flatten(1)  # [B, H * W]
    count = blocks * cells.shape[1] // mask[0].numel()
    return cells.argsort(dim=1, descending=True, stable=True)[:, :count]


def fill_with_mean(images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Give masked pixels the mean color of their image, all its pixels counted (A2MIM, arXiv 2205.13943).

    Args:
        images: [B, C, H, W], normalized.
        mask: [B, 1, H, W], 1 = masked.

    Returns:
        A filled copy, [B, C, H, W].
    """
    return torch.where(mask.bool(), images.mean((2, 3), keepdim=True), images)


def mix_mask_token(
    z: torch.Tensor, mask: torch.Tensor, token: torch.Tensor, gain: torch.Tensor | None = None, replace: bool = True
) -> torch.Tensor:
    """Put a mask token into features at masked positions.

    ``z (1 - m) + t m`` if it replaces them (SimMIM), else ``z (1 - m) + g z m + t m`` (A2MIM, arXiv 2205.13943), with
    ``g = 1`` if there is no gain.

    Args:
        z: Features, [B, C, H, W] or [B, L, C].
        mask: 1 where masked, broadcastable to ``z``.
        token: t, broadcastable to ``z``.
        gain: g, likewise; read only if nothing is replaced.
        replace: Whether masked features are replaced.
    """
    mask, token = mask.to(z.dtype), token.to(z.dtype)
    if replace:
        return z * (1 - mask) + token * mask
    return (z if gain is None else z * (1 - mask) + gain.to(z.dtype) * z * mask) + token * mask
