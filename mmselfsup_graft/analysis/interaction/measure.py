"""Multi-order interaction strength: the joint effect of two patches in a context of few or many others.

The image is a game of n = grid x grid patches. For two of them, i and j, and a context S of m others,

    delta(i, j, S) = v(S + i + j) - v(S + i) - v(S + j) + v(S),

where v is the reward: the classifier's score of the true class when it sees only these patches. The interaction of
order m is the mean over contexts of that size, ``I^m(i, j | x) = E_S delta``, its strength is
``J(m) = E_x E_ij |I^m| / mean over orders of the same`` (Deng et al., arXiv 2111.06236; A2MIM, arXiv 2205.13943).

Absent patches are 0 after normalization, the mean of the data set.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mmselfsup_graft.errors import ConfigError, DataError
from mmselfsup_graft.evaluation.features import device_of
from mmselfsup_graft.models.eval_mode import full_precision_eval_mode
from mmselfsup_graft.utils.progress import Progress

ORDERS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


# ---------------------------------------------------------------- rewards
def log_odds(logits: torch.Tensor, label: int) -> torch.Tensor:
    """``log p / (1 - p)`` of the true class: its logit minus the logsumexp of the others; [..., K] to [...]."""
    others = torch.cat([logits[..., :label], logits[..., label + 1 :]], dim=-1)
    return logits[..., label] - others.logsumexp(-1)


def log_probability(logits: torch.Tensor, label: int) -> torch.Tensor:
    """``log p`` of the true class; [..., K] to [...]."""
    return logits.log_softmax(-1)[..., label]


def plain_logit(logits: torch.Tensor, label: int) -> torch.Tensor:
    """The logit of the true class; [..., K] to [...]."""
    return logits[..., label]


#: the official names
REWARDS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    'modified': log_odds,
    'normal': log_probability,
    'yi': plain_logit,
}


# ---------------------------------------------------------------- settings
@dataclass(frozen=True)
class InteractionSettings:
    """Settings of the sampling, validated on creation.

    Attributes:
        grid: Patches per side; n = grid * grid players.
        pairs: Pairs (i, j) per image.
        contexts: Contexts S per pair and order; orders 0 and 1 have only one.
        orders: Sizes of the context as shares of the n - 2 other players, each in [0, 1].
        stride: Largest distance of j from i, in patches, in each direction.
        reward: Key of :data:`REWARDS`.
        seed: Of pairs and contexts.

    Raises:
        ConfigError: For an impossible setting.
    """

    grid: int = 16
    pairs: int = 50
    contexts: int = 50
    orders: tuple[float, ...] = ORDERS
    stride: int = 2
    reward: str = 'modified'
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (('grid', 2), ('pairs', 1), ('contexts', 1), ('stride', 1), ('seed', 0)):
            if getattr(self, name) < least:
                raise ConfigError(f'{name} must be at least {least}, got {getattr(self, name)}')
        if self.reward not in REWARDS:
            raise ConfigError(f'reward is {self.reward!r}, expected one of {", ".join(REWARDS)}')
        most = number_of_pairs(self.grid, self.stride)
        if self.pairs > most:
            raise ConfigError(
                f'{self.pairs} pairs do not exist: a grid of {self.grid}x{self.grid} patches has {most} pairs at most '
                f'{self.stride} apart; use fewer pairs or a larger stride'
            )
        self._check_orders()

    def _check_orders(self) -> None:
        outside = [order for order in self.orders if not 0 <= order <= 1]
        if outside or not self.orders:
            raise ConfigError(f'orders are shares of the other patches, each from 0 to 1, got {list(self.orders)}')
        sizes = self.context_sizes
        twice = next((size for size in sizes if sizes.count(size) > 1), None)
        if twice is not None:
            equal = [f'{order:g}' for order, size in zip(self.orders, sizes) if size == twice]
            raise ConfigError(
                f'the orders {" and ".join(equal)} are the same, {twice} of {self.players - 2} other patches; leave '
                'all but one of them out or use a finer grid'
            )

    @property
    def players(self) -> int:
        """Patches of an image, n."""
        return self.grid * self.grid

    @property
    def context_sizes(self) -> list[int]:
        """Players m in a context of each order: ``floor((n - 2) r)``."""
        return [math.floor((self.players - 2) * order + 1e-9) for order in self.orders]

    def contexts_of(self, size: int) -> int:
        """Number of contexts for an order; 1 if there is only one."""
        return 1 if size in (0, self.players - 2) else self.contexts

    @property
    def passes(self) -> int:
        """Masked images per image: four for every pair, context and order."""
        return 4 * self.pairs * sum(self.contexts_of(size) for size in self.context_sizes)


def check_image_size(height: int, width: int, grid: int) -> None:
    """Raise an error for images that the grid does not divide.

    Raises:
        ConfigError: If a patch is not a whole number of pixels.
    """
    if height % grid or width % grid:
        fitting = [number for number in range(2, 33) if height % number == 0 and width % number == 0]
        raise ConfigError(
            f'a grid of {grid}x{grid} patches does not divide images of {height}x{width} pixels; '
            f'possible here: {", ".join(map(str, fitting)) or "none"}'
        )


# ---------------------------------------------------------------- sampling
def number_of_pairs(grid: int, stride: int) -> int:
    """Unordered pairs of different cells of a grid that are at most ``stride`` apart in either direction."""
    steps = range(-stride, stride + 1)
    ordered = sum(max(0, grid - abs(y)) * max(0, grid - abs(x)) for y in steps for x in steps if (y, x) != (0, 0))
    return ordered // 2


def _random(value: int) -> np.random.RandomState:
    return np.random.RandomState(value % 2**32)  # its stream is frozen for all versions of numpy


def sample_pairs(index: int, grid: int, count: int, stride: int, seed: int = 0) -> np.ndarray:
    """Draw the pairs of an image.

    i is uniform; j is i plus a uniform choice of the (2 stride + 1)^2 - 1 offsets, clamped to the grid. Draws with
    i = j, or of an earlier pair in either order, are repeated.

    Args:
        index: Number of the image; the generator starts from ``1000 index + seed``.
        grid: Patches per side.
        count: Number of pairs, at most :func:`number_of_pairs`.
        stride: See above.
        seed: See above.

    Returns:
        [count, 2] flat patch numbers, row by row.
    """
    random, drawn = _random(1000 * index + seed), dict[tuple[int, int], None]()
    steps = range(-stride, stride + 1)
    offsets = [(y, x) for y in steps for x in steps if (y, x) != (0, 0)]
    while len(drawn) < count:
        i = int(random.randint(grid * grid))
        place = np.add(divmod(i, grid), offsets[random.randint(len(offsets))]).clip(0, grid - 1)
        j = int(place[0]) * grid + int(place[1])
        if i != j and (j, i) not in drawn:
            drawn[i, j] = None  # a dict keeps the order without duplicates
    return np.array(list(drawn), dtype=np.int64)


def sample_contexts(index: int, pairs: np.ndarray, players: int, size: int, count: int, seed: int = 0) -> np.ndarray:
    """Draw the contexts of one order: for each pair, sets of other players, uniform without replacement.

    Args:
        index: Number of the image; the generator starts from ``1000 index + size + 1 + seed``.
        pairs: [P, 2].
        players: n.
        size: m, players in a context, 0 to n - 2.
        count: C, contexts per pair.
        seed: See above.

    Returns:
        [P, C, m] flat patch numbers.
    """
    random = _random(1000 * index + size + 1 + seed)
    drawn = np.empty((len(pairs), count, size), dtype=np.int64)
    for number, pair in enumerate(pairs):
        others = np.setdiff1d(np.arange(players), pair)
        for each in range(count):
            drawn[number, each] = random.permutation(others)[:size]
    return drawn


# ---------------------------------------------------------------- the game
def coalitions(pairs: np.ndarray, contexts: np.ndarray, players: int) -> torch.Tensor:
    """Present players: bool [P, C, 4, n], in the order S + i + j, S + i, S + j, S.

    Args:
        pairs: [P, 2] flat patch numbers.
        contexts: [P, C, m] flat patch numbers.
        players: n.
    """
    count, each = contexts.shape[:2]
    present = torch.zeros(count, each, 4, players, dtype=torch.bool)
    present.scatter_(3, torch.as_tensor(contexts)[:, :, None].expand(-1, -1, 4, -1), True)
    i, j = (torch.as_tensor(pairs)[:, k].view(-1, 1, 1, 1).expand(-1, each, 2, 1) for k in (0, 1))
    present[:, :, :2].scatter_(3, i, True)  # slices are views
    present[:, :, 0:3:2].scatter_(3, j, True)
    return present


def masked_images(image: torch.Tensor, present: torch.Tensor, grid: int) -> torch.Tensor:
    """The image with all but the present patches set to 0: [C, H, W] and [N, n] to [N, C, H, W]."""
    mask = present.view(-1, 1, grid, grid).to(image.dtype)
    return image * F.interpolate(mask, size=image.shape[1:], mode='nearest')


def class_scores(
    model: nn.Module, image: torch.Tensor, present: torch.Tensor, grid: int, batch_size: int = 256
) -> torch.Tensor:
    """Logits [..., K] float64 of masked versions of an image; the model is not changed.

    Args:
        model: Gives logits [B, K] for normalized images [B, C, H, W].
        image: [C, H, W] normalized, on the model's device.
        present: [..., n] bool, visible patches.
        grid: Patches per side.
        batch_size: Masked images per forward pass; it changes the result by rounding only.

    Raises:
        ConfigError: If the grid does not divide the image.
    """
    check_image_size(image.shape[1], image.shape[2], grid)
    with full_precision_eval_mode(model):
        parts = present.flatten(0, -2).split(batch_size)
        logits = torch.cat([model(masked_images(image, part.to(image.device), grid)).double() for part in parts])
    return logits.view(*present.shape[:-1], -1).cpu()


def delta(rewards: torch.Tensor) -> torch.Tensor:
    """``v(S + i + j) - v(S + i) - v(S + j) + v(S)``: [..., 4] in this order to [...]."""
    both, first, second, none = rewards.unbind(-1)
    return both - first - second + none


def deltas_of_logits(logits: torch.Tensor, label: int, reward: str = 'modified') -> torch.Tensor:
    """Deltas [...] of logits [..., 4, K] in the order of :func:`coalitions`.

    Args:
        logits: See above.
        label: True class.
        reward: Key of :data:`REWARDS`.

    Raises:
        DataError: If the class does not exist or is the only one.
    """
    if not 0 <= label < logits.shape[-1] or logits.shape[-1] < 2:
        raise DataError(f'an image has label {label}, but the classifier has {logits.shape[-1]} classes')
    return delta(REWARDS[reward](logits.double(), label))


def image_interactions(
    model: nn.Module,
    image: torch.Tensor,
    label: int,
    index: int,
    settings: InteractionSettings,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> torch.Tensor:
    """Interactions ``I^m(i, j | x)`` of one image for every order and pair, [R, P] float64.

    Args:
        model: See :func:`class_scores`.
        image: [C, H, W] normalized, on the model's device.
        label: True class.
        index: Number of the image in its data set; with the seed it decides pairs and contexts.
        settings: See there.
        batch_size: Masked images per forward pass.
        progress: Updated with the number of finished masked images.
    """
    pairs = sample_pairs(index, settings.grid, settings.pairs, settings.stride, settings.seed)
    rows = []
    for size in settings.context_sizes:
        count = settings.contexts_of(size)
        contexts = sample_contexts(index, pairs, settings.players, size, count, settings.seed)
        present = coalitions(pairs, contexts, settings.players)
        logits = class_scores(model, image, present, settings.grid, batch_size)
        rows.append(deltas_of_logits(logits, label, settings.reward).mean(dim=1))  # before the absolute value
        if progress is not None:
            progress.step(4 * len(pairs) * count)
    return torch.stack(rows)


# ---------------------------------------------------------------- strength
@dataclass(frozen=True)
class InteractionStrength:
    """Strength of the interactions over orders.

    Attributes:
        strength: J(m), [R]; its mean is 1.
        standard_error: Of J(m) over the images, [R]; NaN for a single image.
        mean_absolute: ``E_x E_ij |I^m|`` in units of the reward, [R].
    """

    strength: np.ndarray
    standard_error: np.ndarray
    mean_absolute: np.ndarray


def interaction_strength(interactions: np.ndarray) -> InteractionStrength:
    """Mean size of interactions per order, divided by its mean over the orders.

    Args:
        interactions: [images, R, P], means over contexts.

    Raises:
        DataError: If nothing interacts, or a value is not finite.
    """
    per_image = np.abs(interactions).mean(axis=2)  # [images, R]
    raw = per_image.mean(axis=0)
    if not np.isfinite(raw).all() or raw.mean() == 0:
        additive = raw.mean() == 0
        what = 'no two patches interact: the score is a sum over patches' if additive else 'a score is not a number'
        raise DataError(f'the strength of the interactions is undefined, {what}; check the checkpoint')
    images = len(per_image)
    error = per_image.std(axis=0, ddof=1) / math.sqrt(images) if images > 1 else np.full(raw.shape, np.nan)
    return InteractionStrength(raw / raw.mean(), error / raw.mean(), raw)


def measure_interactions(
    model: nn.Module,
    images: Sequence[torch.Tensor],
    labels: Sequence[int],
    indices: Sequence[int],
    settings: InteractionSettings,
    batch_size: int = 256,
    title: str = 'interactions',
) -> np.ndarray:
    """Interactions of several images, [images, R, P].

    Args:
        model: Gives logits [B, K] for normalized images [B, C, H, W].
        images: Normalized, each [C, H, W].
        labels: True classes.
        indices: Numbers of the images in their data set.
        settings: See there.
        batch_size: Masked images per forward pass.
        title: Title of the progress display.
    """
    device, progress = device_of(model), Progress(title, settings.passes * len(images))
    found = [
        image_interactions(model, image.to(device), label, index, settings, batch_size, progress)
        for image, label, index in zip(images, labels, indices, strict=True)
    ]
    return torch.stack(found).numpy()
