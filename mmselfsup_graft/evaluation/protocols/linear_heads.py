"""Many linear classifiers trained together on the same features."""

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import nn

from mmselfsup_graft.models import PortableSyncBN


class LinearHeads:
    """H linear heads as one stacked tensor, each with its own learning rate and weight decay.

    SGD or LARS on the mean cross entropy of every head, with the explicit gradient, a product of two matrices. The
    released code of Layer Grafted Pre-training and MoCo v3 holds H modules and H optimizers instead.

    LARS (You et al., arXiv 1708.03888) is that of MAE's linear probe: the gradient of a head's weight, decay included,
    is multiplied by ``trust * |w| / |g|`` (1 if a norm is 0); biases are neither decayed nor adapted.

    Over ranks: gradients are summed over the shares of the joined batch, so W processes equal one.

    Args:
        rates: [H] learning rates before the schedule's factor.
        decays: [H] weight decays; they hold for weights and, without ``trust``, for biases.
        width: D, length of a feature.
        classes: C.
        seed: Of the initial weights (normal, std 0.01; biases 0).
        batch_norm: Normalize features first by a batch norm without affine part (eps 1e-6), shared by all heads.
        device: Device of the heads.
        momentum: As in torch's SGD: the rates multiply the sum of gradients.
        trust: Coefficient of LARS; None for SGD.
    """

    def __init__(
        self,
        rates: np.ndarray,
        decays: np.ndarray,
        width: int,
        classes: int,
        seed: int = 0,
        batch_norm: bool = False,
        device: torch.device | str = 'cpu',
        momentum: float = 0.0,
        trust: float | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(len(rates), width, classes, generator=generator) * 0.01
        self.weight = weight.to(device)  # [H, D, C]
        self.bias = torch.zeros(len(rates), 1, classes, device=device)
        self.rates = torch.tensor(rates, dtype=torch.float32, device=device).view(-1, 1, 1)
        self.decays = torch.tensor(decays, dtype=torch.float32, device=device).view(-1, 1, 1)
        self.norm: nn.Module = PortableSyncBN(width, eps=1e-6, affine=False) if batch_norm else nn.Identity()
        self.norm = self.norm.to(device)
        self.momentum, self.trust = momentum, trust
        self._sums = [torch.zeros_like(value) for value in (self.weight, self.bias)] if momentum else None

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Scores [H, B, C] of features [B, D]."""
        return torch.matmul(self.norm(features), self.weight) + self.bias

    @torch.no_grad()
    def step(self, features: torch.Tensor, labels: torch.Tensor, total: int, factor: float) -> None:
        """One step of the optimizer.

        Args:
            features: [B, D], this process's share of the batch; it may be empty.
            labels: [B].
            total: Images of the joined batch.
            factor: Of the schedule, on all learning rates.
        """
        self.norm.train()
        normed = self.norm(features)
        error = (torch.matmul(normed, self.weight) + self.bias).softmax(dim=2)  # [H, B, C]
        error[:, torch.arange(len(labels), device=error.device), labels] -= 1.0
        error /= total
        weight_grad = torch.matmul(normed.T, error)  # [H, D, C]
        bias_grad = error.sum(1, keepdim=True)  # [H, 1, C]
        for index, (value, grad) in enumerate(((self.weight, weight_grad), (self.bias, bias_grad))):
            all_reduce(grad)
            change = self._adapted(value, grad)
            if self._sums is not None:
                change = self._sums[index].mul_(self.momentum).add_(change)
            value -= factor * self.rates * change

    def _adapted(self, value: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
        """Gradient with weight decay, scaled by LARS."""
        if self.trust is None:
            return grad + self.decays * value
        if value is self.bias:
            return grad
        grad = grad + self.decays * value
        size, change = (each.flatten(1).norm(dim=1).view(-1, 1, 1) for each in (value, grad))
        known = (size > 0) & (change > 0)
        return grad * torch.where(known, self.trust * size / change, torch.ones_like(size))

    @torch.no_grad()
    def correct(self, features: torch.Tensor, labels: torch.Tensor, chunk: int) -> torch.Tensor:
        """Number [H] of features [N, D] that each head classifies as their labels [N]; ``chunk`` rows at a time."""
        self.norm.eval()
        right = torch.zeros(len(self.weight), dtype=torch.int64, device=self.weight.device)
        for rows, truth in zip(features.split(chunk), labels.split(chunk)):
            right += (self.logits(rows).argmax(2) == truth).sum(1)
        return right

    @torch.no_grad()
    def predicted(self, features: torch.Tensor, chunk: int) -> torch.Tensor:
        """Class [N] that the first head gives to features [N, D]; ``chunk`` rows at a time."""
        self.norm.eval()
        return torch.cat([self.logits(rows)[0].argmax(1) for rows in features.split(chunk)])

    def head(self, index: int) -> 'LinearHeads':
        """A copy of one head alone."""
        rates, decays = (each[index : index + 1].flatten().cpu().numpy() for each in (self.rates, self.decays))
        device, bn = self.weight.device, not isinstance(self.norm, nn.Identity)
        width, classes = self.weight.shape[1:]
        copy = LinearHeads(rates, decays, width, classes, 0, bn, device, trust=self.trust)
        copy.weight, copy.bias = self.weight[index : index + 1].clone(), self.bias[index : index + 1].clone()
        copy.norm.load_state_dict(self.norm.state_dict())
        return copy
